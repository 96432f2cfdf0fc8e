"""The published recipe "Stacking multiple LSTM layers", with its mistakes, to measure against.

This is new code that does what the recipe does. All three layers share one cell object, and so
their weights. The embedding is as wide as the cells. The cell is called once for each step, as in
`legacy_seq2seq.rnn_decoder`. Targets wrap around inside each row. Each epoch has a new random order
of batches, and still carries the state from batch to batch. Adam has a rate of 0.0005. The session
has the default options.
"""

import contextlib

from shared import tf

# isort: split
import numpy as np

LEARNING_RATE = 0.0005
MAX_GRADIENT_NORM = 4.5


class Recipe:
    """The recipe's model, in the default graph. `train_op` takes one step of Adam.

    Attributes:
      x_data, y_output: int32 [batch_size, training_seq_len], to be fed.
      initial_state, final_state: tuples of LSTMStateTuple; the first may be fed.
      losses: float32 [batch_size * training_seq_len], nats; `cost` is their mean.
      probabilities: float32 [batch_size * training_seq_len, vocab_size].
    """

    def __init__(
        self, rnn_size, num_layers, batch_size, training_seq_len, vocab_size, rate=LEARNING_RATE
    ):
        cell = tf.contrib.rnn.BasicLSTMCell(rnn_size)
        stack = tf.contrib.rnn.MultiRNNCell([cell] * num_layers)
        self.initial_state = stack.zero_state(batch_size, tf.float32)
        self.x_data = tf.placeholder(tf.int32, [batch_size, training_seq_len])
        self.y_output = tf.placeholder(tf.int32, [batch_size, training_seq_len])
        with tf.variable_scope('lstm_vars'):
            normal = tf.random_normal_initializer()
            W = tf.get_variable('W', [rnn_size, vocab_size], initializer=normal)
            b = tf.get_variable('b', [vocab_size], initializer=tf.zeros_initializer())
            embedding = tf.get_variable('embedding', [vocab_size, rnn_size], initializer=normal)
        columns = tf.split(tf.nn.embedding_lookup(embedding, self.x_data), training_seq_len, 1)
        outputs, self.final_state = [], self.initial_state
        with tf.variable_scope('rnn_decoder', reuse=tf.AUTO_REUSE):
            for column in columns:
                output, self.final_state = stack(tf.squeeze(column, [1]), self.final_state)
                outputs.append(output)
        logits = tf.matmul(tf.reshape(tf.concat(outputs, axis=1), [-1, rnn_size]), W) + b
        self.probabilities = tf.nn.softmax(logits)
        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits
        self.losses = cross_entropy(labels=tf.reshape(self.y_output, [-1]), logits=logits)
        self.cost = tf.reduce_mean(self.losses)
        variables = tf.trainable_variables()
        gradients, _ = tf.clip_by_global_norm(tf.gradients(self.cost, variables), MAX_GRADIENT_NORM)
        optimizer = tf.train.AdamOptimizer(rate)
        self.train_op = optimizer.apply_gradients(zip(gradients, variables))

    def feed(self, x, y, state):
        """Return the feed of one batch."""
        feed = {self.x_data: x, self.y_output: y}
        for (c, h), layer in zip(self.initial_state, state):
            feed[c], feed[h] = layer.c, layer.h
        return feed

    def train_step(self, session, x, y, state):
        """Take one step; return the loss and the state after it."""
        fetches = [self.cost, self.final_state, self.train_op]
        loss, state, _ = session.run(fetches, self.feed(x, y, state))
        return loss, state

    def draw(self, session, num, random):
        """Draw `num` characters as the recipe does, one session call each: list of int.

        The model must be built for batches of 1 x 1.
        """
        drawn, state = [1], session.run(self.initial_state)
        for _ in range(num):
            feed = self.feed([[drawn[-1]]], [[0]], state)
            (each,), state = session.run([self.probabilities, self.final_state], feed)
            drawn.append(random.choice(len(each), p=each))
        return drawn[1:]


@contextlib.contextmanager
def started(settings, vocab_size, *shape):
    """Yield a session, and a Recipe for batches of this shape."""
    rate = settings.learning_rate or LEARNING_RATE
    model = Recipe(settings.rnn_size, settings.num_layers, *shape, vocab_size, rate)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        yield session, model


def training_batches(ids, batch_size, training_seq_len, epochs, seed):
    """Yield (epoch, x, y) in the recipe's order of training; epochs count from 1."""
    num_batches = len(ids) // (batch_size * training_seq_len)
    rows = np.array(ids[: num_batches * batch_size * training_seq_len])
    x = np.stack(np.split(rows.reshape(batch_size, -1), num_batches, axis=1))
    y = np.roll(x, -1, axis=2)  # the last target of a row is the row's first character
    random = np.random.RandomState(seed)
    for epoch in range(1, epochs + 1):
        for number in random.permutation(num_batches):
            yield epoch, x[number], y[number]
