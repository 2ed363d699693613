"""The report on a terminal, letter by letter."""
import dataclasses

from ec_estimator.report.data import Latency, Measurement, pruning_report
from ec_estimator.report.text import format_report
from tests.report.networks import write_network

TABLE = """\
pruned at step 70, after trial 2 of 3: model.ckpt-70

layer            op      channels  parameters          MACs       bytes  pruning
---------------  ------  --------  ----------  ------------  ----------  \
---------------------------
conv/Conv2D      Conv2D    4 -> 3    72 -> 54  1,152 -> 864  288 -> 216  compressed
head/MatMul      MatMul         5    20 -> 15      20 -> 15    80 -> 60  \
its channels are <frozen>
again/MatMul     MatMul         ?           0      20 -> 15           0  \
its channels were not found
other variables                        9 -> 8             0    56 -> 52
total                               101 -> 77  1,192 -> 894  424 -> 328
left                                    76.2%         75.0%       77.4%"""
LATENCY = """

latency of a batch, median of 9 runs in turns, TensorFlow 1.15.5, 2 CPUs

batch    whole    small   speed
-----  -------  -------  ------
    1  2.00 ms  1.50 ms  1.33 x

measured by: python -m ec_estimator report"""


def test_the_table_shows_whole_and_small(tmp_path):
    write_network(tmp_path)
    report = dataclasses.replace(
        pruning_report(str(tmp_path)), checkpoint="model.ckpt-70"
    )
    assert format_report(report) == TABLE
    measurement = Measurement(
        "python -m ec_estimator report", 9, "1.15.5", 2, (Latency(1, 2.0, 1.5),)
    )
    report = dataclasses.replace(report, measurement=measurement)
    assert format_report(report) == TABLE + LATENCY
