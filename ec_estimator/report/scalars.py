"""A trial as TensorBoard shows it."""
import numpy as np
import tensorflow.compat.v1 as tf


def scalars(name, trial, schedule, report):
    """What a trial's Report has for TensorBoard, under `compression/<name>/`.

    Args:
      name: of the compressor.
      trial: its number.
      schedule: core.schedule.Schedule.
      report: core.report.Report.

    Returns:
      tf.Summary.
    """
    numbers = {**report.scalars(), "trial": trial}
    if schedule.is_gradual:
        numbers["scheduled_ratio"] = schedule.ratio(trial)
    summary = tf.Summary()
    for tag, value in numbers.items():
        summary.value.add(tag=f"compression/{name}/{tag}", simple_value=value)
    densities = np.array(report.densities())
    if densities.size:
        summary.value.add(
            tag=f"compression/{name}/mask_density", histo=_histogram(densities)
        )
    return summary


def _histogram(values):
    counts, edges = np.histogram(values, bins=20, range=(0.0, 1.0))
    return tf.HistogramProto(
        min=values.min(),
        max=values.max(),
        num=len(values),
        sum=values.sum(),
        sum_squares=(values**2).sum(),
        bucket_limit=edges[1:],
        bucket=counts,
    )
