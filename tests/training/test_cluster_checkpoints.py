"""Every checkpoint of a cluster's chief holds the trials up to it, whoever saves it."""
import contextlib
import gc
import re
import threading

import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.training.attachment import attach_to_finished_graph
from ec_estimator.training.cluster import ClusterTrialHook
from tests import models
from tests.quantization import sessions
from tests.training import clusters
from tests.training.runs import raw_model, sparsifier, zeros
from tests.training.test_cluster import OthersTrain, quantizer, train_as_chief


def trials_in(folder):
    """[(global step, trials done, trials that were due up to there)] of a Sparsifier's
    checkpoints."""
    schedule, found = sparsifier().schedule, []
    for path in tf.train.get_checkpoint_state(str(folder)).all_model_checkpoint_paths:
        reader = tf.train.load_checkpoint(path)
        step = reader.get_tensor("global_step")
        due = sum(schedule.next_due(done) <= step for done in range(3))
        found.append((step, reader.get_tensor("ec_estimator/sparsity/trial"), due))
    return found


# None: a hook of the TrainSpec.
@pytest.mark.parametrize("hooks", ["training_hooks", "training_chief_hooks", None])
def test_checkpoints_of_a_users_own_saver_hold_all_trials(hooks, tmp_path):
    own = tf.train.CheckpointSaverHook(str(tmp_path / "own"), save_steps=2)

    def model_fn(features, labels, mode):
        spec = raw_model()[0](features, labels, mode)
        return spec._replace(**{hooks: [own]}) if hooks else spec

    train_as_chief(tmp_path, sparsifier(), 6, model_fn, [] if hooks else [own])
    found = trials_in(tmp_path / "own")
    assert len(found) > 2
    assert all(done == due for _, done, due in found), found
    assert found[-1][1] == 3
    assert 0.55 < zeros(tmp_path / "own") <= 0.6
    assert not (tmp_path / "checkpoint").exists()


def test_the_first_checkpoint_has_what_comes_before_the_first_step(tmp_path):
    """A chief that is killed after it starts from there, while others are at work."""
    train_as_chief(tmp_path, quantizer(), 1)
    first = tf.train.load_checkpoint(str(tmp_path / "model.ckpt-0"))
    assert first.get_tensor("global_step") == 0
    for kernel in sessions.KERNELS:
        assert (first.get_tensor(f"ec_estimator/quantization/{kernel}/step") > 0).all()


def in_a_session(folder, scaffold=None):
    """Trains in the session of a cluster's chief; others take the last steps."""
    addresses = clusters.cluster(chief=1, ps=1)
    servers = [
        tf.train.Server(addresses, job, 0, config=models.ONE_THREAD)
        for job in addresses
    ]
    with tf.Graph().as_default():
        setter = tf.train.replica_device_setter(1, worker_device="/job:chief/task:0")
        with tf.device(setter):
            step = tf.train.get_or_create_global_step()
            _, loss = sessions.model()
            train_op = tf.train.GradientDescentOptimizer(0.1).minimize(loss, step)
        with tf.train.MonitoredTrainingSession(
            servers[0].target,
            checkpoint_dir=str(folder),
            scaffold=scaffold and scaffold(),
            hooks=[ec.CompressionHook(sparsifier()), OthersTrain()],
            save_checkpoint_steps=2,
            log_step_count_steps=None,
        ) as session:
            for _ in range(2):
                session.run(train_op)


def test_checkpoints_of_a_session_hold_all_trials(tmp_path):
    in_a_session(tmp_path)
    assert trials_in(tmp_path) == [(0, 0, 0), (4, 2, 2), (6, 3, 3)]


def test_a_session_whose_saver_is_not_in_the_graph_is_warned_of(tmp_path, caplog):
    def scaffold():
        return tf.train.Scaffold(saver=tf.train.Saver(defer_build=True))

    in_a_session(tmp_path, scaffold)
    assert "add it to the graph, too: tf.add_to_collection" in caplog.text


class TestSaves:
    """Of a training's Saver, each in a session that knows no CheckpointSaverHook."""

    @pytest.fixture
    def hook(self):
        with tf.Graph().as_default() as graph:
            _, loss = sessions.model()
            sessions.minimize(loss)
            attachment = attach_to_finished_graph(graph, [sparsifier()])
            hook = ClusterTrialHook(attachment, None, None)
            hook.begin()
            self.other = tf.train.Saver()
            self.saver = tf.train.Scaffold().finalize().saver
            self.counter = attachment.trial_counters[0]
            self.step = tf.train.get_global_step()
            yield hook

    @contextlib.contextmanager
    def session(self, hook, step=4):
        """A session in which two trials are due."""
        with tf.Session() as session:
            session.run(tf.get_collection(tf.GraphKeys.INIT_OP))
            hook.after_create_session(session, tf.train.Coordinator())
            self.step.load(step, session)
            yield session

    def saved_trials(self, path):
        reader = tf.train.load_checkpoint(path)
        return reader.get_tensor("ec_estimator/sparsity/trial")

    @pytest.mark.parametrize("given", ["number", "tensor", "none"])
    def test_may_be_given_any_step(self, given, hook, tmp_path):
        step = {"number": 4, "tensor": self.step, "none": None}[given]
        with self.session(hook) as session:
            path = self.saver.save(session, str(tmp_path / "a"), global_step=step)
        assert self.saved_trials(path) == 2

    def test_of_several_threads_run_each_trial_once(self, hook, tmp_path, caplog):
        with caplog.at_level("INFO"), self.session(hook) as session:
            threads = [
                threading.Thread(
                    target=self.saver.save, args=[session, str(tmp_path / str(n))]
                )
                for n in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        assert re.findall(r"trial (\d)/3 before step", caplog.text) == ["1", "2"]
        for n in range(3):
            assert self.saved_trials(str(tmp_path / str(n))) == 2

    def test_of_the_session_after_a_lost_one_are_prepared_too(self, hook, tmp_path):
        for _ in range(2):
            with self.session(hook) as session:
                path = self.saver.save(session, str(tmp_path / "a"))
            assert self.saved_trials(path) == 2

    def test_of_another_session_or_saver_run_no_trial(self, hook, tmp_path):
        with self.session(hook) as session, tf.Session() as other:
            other.run(tf.get_collection(tf.GraphKeys.INIT_OP))
            self.step.load(4, other)
            self.saver.save(other, str(tmp_path / "a"))
            assert other.run(self.counter) == 0
            self.other.save(session, str(tmp_path / "b"))
            assert session.run(self.counter) == 0


class _Keep(tf.train.SessionRunHook):
    """Keeps the session's Saver, and has the training end with an error."""

    def __init__(self, error):
        self._error = error

    def begin(self):
        (self.saver,) = tf.get_collection(tf.GraphKeys.SAVERS)

    def after_run(self, run_context, run_values):
        assert "save" in vars(self.saver)
        if self._error:
            raise self._error


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_after_the_training_the_saver_saves_as_it_did(error, tmp_path):
    keep = _Keep(error)
    with contextlib.suppress(ZeroDivisionError):
        train_as_chief(tmp_path, sparsifier(), 1, hooks=[keep])
    gc.collect()
    assert "save" not in vars(keep.saver)
