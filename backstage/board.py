"""What TensorBoard shows of a run."""

import math
import os
import time

from backstage import tf, workers

import numpy as np


class Board:
    """Writes what TensorBoard shows into the folder `board` of a run. Worker 0 alone does so.

    `done` iterations are done. What a run wrote of later ones is discarded: after a kill they come
    again. Of a run without more to come nothing is written.
    """

    def __init__(self, settings, graph, done, has_more):
        self.weights = graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
        self.characters = settings.batch_size * settings.training_seq_len
        self.last = done, time.perf_counter()
        self.writer = None
        if workers.is_first() and has_more:
            # TensorFlow names the file by the second, and empties one that has this name already.
            folder, suffix = os.path.join(settings.temp_dir, 'board'), f'.{done:09}'
            self.writer = tf.summary.FileWriter(folder, graph, filename_suffix=suffix)
            start = tf.SessionLog(status=tf.SessionLog.START)
            self.writer.add_session_log(start, done + 1)
        self.add_texts(done, 'settings', [f'{k} = {v!r}' for k, v in vars(settings).items()])

    def close(self):
        """Write what has not been written yet."""
        if self.writer:
            self.writer.close()

    def add_step(self, iteration, loss, norm, rate):
        """Add the loss and its perplexity, the gradient's norm, the rate, and the speed so far."""
        before, then = self.last
        self.last = iteration, time.perf_counter()
        speed = self.characters * (iteration - before) / (self.last[1] - then)
        self._add_loss(iteration, 'training', loss)
        self._add_scalar(iteration, 'training/gradient_norm', norm)
        self._add_scalar(iteration, 'training/learning_rate', rate)
        self._add_scalar(iteration, 'training/characters_per_second', speed)

    def add_held_out(self, iteration, loss, session):
        """Add the held-out loss and its perplexity, and histograms of the weights."""
        from tensorboard.plugins.histogram import summary as histogram_summary

        self._add_loss(iteration, 'held_out', loss)
        for weight, values in zip(self.weights, session.run(self.weights)):
            self._add(iteration, histogram_summary.pb(weight.op.name, np.ravel(values)))

    def add_texts(self, iteration, name, texts):
        """Add a list of str."""
        from tensorboard.plugins.text import summary as text_summary

        # Four blanks: Markdown shows such a line as it is.
        text = '\n'.join('    ' + line for text in texts for line in text.split('\n'))
        self._add(iteration, text_summary.pb(name, text.encode('utf-8', 'replace')))

    def _add_loss(self, iteration, of, nats):
        self._add_scalar(iteration, f'loss/{of}', nats)
        self._add_scalar(iteration, f'loss/{of}_perplexity', math.exp(min(nats, 700)))

    def _add_scalar(self, iteration, tag, value):
        self._add(iteration, tf.Summary(value=[tf.Summary.Value(tag=tag, simple_value=value)]))

    def _add(self, iteration, summary):
        if self.writer:
            self.writer.add_summary(summary, iteration)
