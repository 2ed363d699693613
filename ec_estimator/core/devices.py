"""Which process of a cluster an op runs in, as the devices of a graph have it."""
import tensorflow.compat.v1 as tf


def task_of(device):
    """The process that a device belongs to, as a device: "/job:ps/task:0".

    Args:
      device: name of a device; "" or None where the runtime is to choose.

    Returns:
      "" where no process is named.
    """
    spec = tf.DeviceSpec.from_string(device or "")
    return tf.DeviceSpec(job=spec.job, replica=spec.replica, task=spec.task).to_string()


def beside(variable):
    """Context whose ops run in the process that holds a variable: on a cluster what is
    as large as the variable then never leaves its parameter server."""
    return tf.device(task_of(variable.device))
