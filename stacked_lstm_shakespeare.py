"""Stacked LSTM layers: a character-level language model of Shakespeare, in TensorFlow 1.15.

    python stacked_lstm_shakespeare.py                 train, print samples, plot the loss
    python stacked_lstm_shakespeare.py --epochs=2      the same, with a setting changed
    python -m tools.sample                             print what the trained model writes

Read the file from top to bottom, the way the data flows: settings -> text -> ids -> batches ->
model -> loss -> checkpoint, plot and samples. backstage/ keeps a run safe, fast and comfortable.
Start with:

    the stack of cells     LSTM_Model.__init__
    the loss               LSTM_Model._build_loss
    dropout                LSTM_Model._dropout
    the training loop      train
    the held-out loss      measure
    drawing text           LSTM_Model._build_sampling

Names that mean the same everywhere:

    tf          TensorFlow 1.15, or the same interface of a later version
    settings    argparse.Namespace, with an attribute for each constant below
    ix2vocab    list of str, the vocabulary: the symbol of each id
    ids         uint8 [characters], the text (uint16 or uint32 for more than 256 symbols)
    split       int, the position in ids where the held-out part begins
    model       the LSTM_Model that learns
    sampler     an LSTM_Model with the averaged weights; it measures losses and draws text
    state       float32 [num_layers, 2, streams, rnn_size], c and h of each layer: its memory

After the recipe "Stacking multiple LSTM layers" (Nick McClure, TensorFlow Machine Learning
Cookbook, Packt, 2017), with its names and its log lines.
"""

import math
import os
import sys
import zlib

try:
    from backstage import tf
except ImportError:
    sys.exit(f'{__file__} needs the rest of the project, such as backstage/, beside it.')
from backstage import lstm, machine, pictures, reading, report, running, saving, workers
from backstage.files import part_of
from backstage.folder import count_iterations, only_run_in
from backstage.reading import code_points, composed, fold_to_ascii
from backstage.settings import read_settings
from backstage.sources import text_path

import numpy as np

# --- Settings ------------------------------------------------------------------------------------
# Edit them here, or set them on the command line (--rnn_size=256). Every lower-case constant is a
# setting; --help lists it with its comment.

# The text
text_file = ''  # a UTF-8 text of your own; empty: the works of Shakespeare, downloaded once
clean_text = True  # lower case, a-z 0-9 space - ' only; False: every character as it is
min_word_freq = 5  # with clean_text=False, rarer characters become 'unknown'
held_out = 0.05  # share of the text, at its end, that is measured and never trained on

# The model
num_layers = 3  # LSTM layers, one on top of the other
rnn_size = 128  # units in each layer
embedding_size = 32  # width of the vector that stands for a character
residual = True  # add the input of each upper layer to its output
init_from = ''  # temp_dir of another run, to start from its best weights

# The training
epochs = 10  # passes through the text
batch_size = 100  # streams of text read side by side
training_seq_len = 50  # characters of a stream in a batch; the gradient flows back through them
learning_rate = 0.0  # peak learning rate of Adam; 0: 0.03 to 0.12, by batch and model
weight_decay = 0.1  # each iteration shrinks every weight by this times the learning rate
keep_prob = 1.0  # share of a layer's outputs that dropout keeps; lower for small texts
warmup_iterations = 100  # iterations over which the learning rate rises from 0
max_gradient_norm = 5.0  # gradients with a larger global norm are scaled down to it
average_decay = 0.99  # samples and held-out loss use weights averaged over 1/(1 - this) steps
max_iterations = 0  # stop after this many iterations; 0: when all epochs are done
patience = 0  # stop after this many saves without a better held-out loss; 0: never
device = 'auto'  # 'cpu', 'gpu', or 'auto': a GPU where TensorFlow finds one
threads_per_operation = 1  # CPU threads; as many operations run at once as there are cores
seed = 1  # for initial weights, stream offsets, dropout and samples

# What is shown and saved
log_every = 10  # iterations between two loss lines
eval_every = 500  # iterations between two rounds of samples
save_every = 1000  # iterations between two checkpoints, each with a held-out loss and a plot
restart = False  # begin a new run; the earlier one moves aside, within temp_dir
prime_texts = ['thou art more', 'to be or not to', 'wherefore art thou']  # starts of samples
sample_length = 100  # characters in a sample; four times as many at the end
temperature = 0.7  # for samples: 1 draws what the model predicts, less is safer, 0 is argmax
show_plot = True  # show the plot in a window at the end, if there is a display

# Where things are
data_dir = 'data'  # folder of the downloaded text
temp_dir = 'temp'  # folder of the model, the plot and everything else a run writes
gutenberg_url = 'https://www.gutenberg.org/cache/epub/100/pg100.txt'  # 'none': skip it


# --- Text ----------------------------------------------------------------------------------------

UNKNOWN = 'unknown'  # has index 0 in every vocabulary
CHARACTERS = " '-0123456789abcdefghijklmnopqrstuvwxyz"  # indices 1 to 39 of a clean text
CLEAN_BYTES = bytes(code if chr(code) in CHARACTERS else ord(' ') for code in range(256))


def clean(text):
    """Return the text in lower case, in the 39 CHARACTERS; a run of anything else is one space."""
    text = fold_to_ascii(text).lower()
    codes = np.frombuffer(text.encode('ascii').translate(CLEAN_BYTES), np.uint8)
    is_space = codes == ord(' ')
    is_repeated = is_space & np.append(False, is_space[:-1])
    return codes[~is_repeated].tobytes().decode('ascii')


def read_text(path, clean_text, seen=None):
    """Yield the text to learn, in pieces of str; `seen` counts what of the file is left out."""
    last = ' '  # so that no clean text begins with a space, and none repeats between pieces
    for piece in reading.read_pieces(path, seen):
        text = clean(last + piece)[1:] if clean_text else piece
        reading.count_left_out(piece, text, seen)
        last = text[-1:] or last
        yield text


def build_vocab(path, clean_text, min_word_freq):
    """Return the vocabulary, a list of str in which each character stands at its id.

    A clean text always has the same 40 symbols. Otherwise the vocabulary holds the characters that
    occur at least `min_word_freq` times, in the order of their code points.
    """
    if clean_text:
        return [UNKNOWN, *CHARACTERS]
    counts = np.zeros(sys.maxunicode + 1, np.int64)
    for piece in read_text(path, clean_text):
        counts += np.bincount(code_points(piece), minlength=len(counts))
    return [UNKNOWN, *map(chr, np.flatnonzero(counts >= min_word_freq))]


def encode_text(path, clean_text, ix2vocab, file, seen=None):
    """Write the ids of the text at `path` to a binary file, as integers of `reading.id_type`.

    Returns:
      How often each symbol occurs, int64 [vocab_size], and the CRC-32 of the ids, which
      identifies the text.
    """
    id_of = np.zeros(sys.maxunicode + 1, reading.id_type(ix2vocab))  # by code point; 0: 'unknown'
    id_of[[ord(character) for character in ix2vocab[1:]]] = np.arange(1, len(ix2vocab))
    counts, crc = np.zeros(len(ix2vocab), np.int64), 0
    for piece in read_text(path, clean_text, seen):
        ids = id_of[code_points(piece)]
        file.write(ids.tobytes())
        counts += np.bincount(ids, minlength=len(ix2vocab))
        crc = zlib.crc32(ids, crc)
    return counts, crc


def encode(text, ix2vocab, clean_text):
    """Return the ids of a prime text: int32 [1, characters]."""
    vocab2ix = {character: ix for ix, character in enumerate(ix2vocab)}
    text = clean(text) if clean_text else composed(text)
    return np.array([[vocab2ix.get(character, 0) for character in text]], np.int32)


def decode(ids, ix2vocab):
    """Return the text of ids; 'unknown' becomes the replacement character."""
    return ''.join(ix2vocab[ix] if ix else '\ufffd' for ix in ids)


def held_out_begin(num_ids, held_out):
    """Return the position in a text where its held-out part begins."""
    return int(num_ids * (1 - held_out))


def prepare_text(settings):
    """Write the ids of the text into `temp_dir`; return `ix2vocab`, `split`, and a dict.

    The dict has `text_crc`, the CRC-32 of the ids, and `unseen`, the ids that do not occur
    before `split`, and so are not learned.

    Raises:
      UserError: the text is too short, or there is nothing to learn in it.
    """
    seen = reading.Counter()  # how much of the file is left out, and why
    ids_path = os.path.join(settings.temp_dir, 'text.ids')
    with text_path(settings, settings.temp_dir) as path:
        print('Building Shakespeare Vocab by Characters')
        ix2vocab = build_vocab(path, settings.clean_text, settings.min_word_freq)
        print(f'Vocabulary Length = {len(ix2vocab)}')
        with open(part_of(ids_path), 'wb') as file:  # renamed when the run begins
            counts, crc = encode_text(path, settings.clean_text, ix2vocab, file, seen)
            split = held_out_begin(counts.sum(), settings.held_out)
            reading.check_text(path, counts, split, settings, seen)
            unseen = reading.find_unseen(file, split, counts)
            for text in settings.prime_texts:
                prime = encode(text, ix2vocab, settings.clean_text)
                reading.check_prime(text, prime, ix2vocab, unseen)
    print(f'{split:,} characters to learn, {counts.sum() - split:,} held out')
    if counts[0]:
        print(f"{counts[0]:,} characters are too rare to learn; they are read as 'unknown'")
    return ix2vocab, split, {'text_crc': crc, 'unseen': unseen}


# --- From ids to batches -------------------------------------------------------------------------


def batches_per_epoch(num_ids, batch_size, training_seq_len):
    """Return how many batches fit, with room for the largest offset and the last target."""
    return (num_ids - training_seq_len) // (batch_size * training_seq_len)


def read_batch(ids, batch_size, training_seq_len, offset, number, rows=slice(None)):
    """Return one batch for truncated backpropagation through time.

    The text, from `offset` on, is cut into `batch_size` streams of equal length. Row b of a batch
    continues where row b of the previous batch ended, so the state of the LSTM carries over.

    Args:
      offset: int, from 0 up to `training_seq_len` - 1.
      number: int, from 0 up to `batches_per_epoch` - 1.
      rows: slice, which streams to read.

    Returns:
      Integers [streams, training_seq_len], and the same of the character that follows each.
    """
    num_batches = batches_per_epoch(len(ids), batch_size, training_seq_len)
    streams = offset + np.arange(batch_size) * num_batches * training_seq_len
    columns = number * training_seq_len + np.arange(training_seq_len + 1)
    window = ids[streams[rows, None] + columns]  # [streams, training_seq_len + 1]
    return window[:, :-1], window[:, 1:]


def stream_offset(seed, epoch, training_seq_len):
    """Return where the streams begin, so that each epoch truncates at other places."""
    return np.random.RandomState([seed, epoch]).randint(training_seq_len)


# --- Model ---------------------------------------------------------------------------------------


class LSTM_Model:
    """A stack of LSTM layers that predicts the next character.

    The stack and its truncated backpropagation follow Zaremba, Sutskever and Vinyals, "Recurrent
    Neural Network Regularization", 2014. Drawing text follows Graves, "Generating Sequences With
    Recurrent Neural Networks", 2013. The residual connections follow Wu et al., "Google's Neural
    Machine Translation System", 2016; with them the upper layers learn from the start.

    The training instance is unrolled for batches of one shape. An instance with
    `infer_sample=True` takes any shape; it measures losses and draws text. `build_models` makes
    both. Ids in `unseen` are never drawn. If `top_k` is not 0, only the `top_k` likeliest are.
    """

    def __init__(self, settings, vocab_size, infer_sample=False, unseen=(), top_k=0):
        num_layers, rnn_size = settings.num_layers, settings.rnn_size
        # A standard deviation of 1 is large enough for all layers to learn from the start.
        size, normal = [vocab_size, settings.embedding_size], tf.random_normal_initializer()
        self.embedding_mat = tf.get_variable('embedding_mat', size, initializer=normal)
        self.W = tf.get_variable('W', [rnn_size, vocab_size])
        self.b = tf.get_variable('b', [vocab_size], initializer=tf.zeros_initializer())
        # Each layer needs its own cell object: [cell] * num_layers would share one kernel.
        cells = [tf.contrib.rnn.BasicLSTMCell(rnn_size) for _ in range(num_layers)]
        upper = map(tf.contrib.rnn.ResidualWrapper, cells[1:]) if settings.residual else cells[1:]
        self.lstm_cell = tf.contrib.rnn.MultiRNNCell([cells[0], *upper])
        with tf.variable_scope('rnn'):  # this call creates the weights; it is never run
            first = tf.zeros([1, settings.embedding_size])
            self.lstm_cell(first, self.lstm_cell.zero_state(1, tf.float32))
        # The same computation with the same weights, but faster
        self.stack = lstm.Stack([cell.variables for cell in cells], settings.residual)

        # To be fed: characters and the characters that follow them, int32 [batch, time]
        shape = [settings.batch_size // workers.count(), settings.training_seq_len]
        shape = [None, None] if infer_sample else shape
        self.x_data = tf.placeholder(tf.int32, shape, 'x_data')
        self.y_output = tf.placeholder(tf.int32, shape, 'y_output')
        # c and h of each layer before the first character; `zero_state` at the start of a text
        state_shape = [num_layers, 2, shape[0], rnn_size]
        self.initial_state = tf.placeholder(tf.float32, state_shape, 'initial_state')
        if infer_sample:
            self._build_reading()
            self._build_sampling(unseen, top_k)
        else:
            self._build_loss(settings)
            self._build_training(settings)

    def zero_state(self, streams):
        """Return the state before the first character: zeros, float32 as `initial_state`."""
        num_layers, two, _, rnn_size = self.initial_state.shape.as_list()
        return np.zeros([num_layers, two, streams, rnn_size], np.float32)

    def _build_loss(self, settings):
        """Unrolled over `training_seq_len` characters: logits, losses, and their mean."""
        inputs = tf.nn.embedding_lookup(self.embedding_mat, tf.transpose(self.x_data))
        state = unpack_state(self.initial_state)
        # inputs [time, batch, embedding_size] -> outputs, blocks of [steps, batch, rnn_size]
        outputs, final_state = self.stack.unroll(inputs, state, self._dropout(settings))
        self.final_state = pack_state(final_state)  # after the last character
        self.logits = [tf.tensordot(block, self.W, 1) + self.b for block in outputs]
        targets = tf.split(tf.transpose(self.y_output), [block.shape[0].value for block in outputs])
        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits
        losses = [cross_entropy(labels=t, logits=x) for t, x in zip(targets, self.logits)]
        self.loss = tf.reduce_mean(tf.concat(losses, axis=0))  # nats
        self.cost = self.loss  # what training minimizes: add a second loss here

    def _dropout(self, settings):
        """Return the mask that multiplies the outputs of each layer: float32 [layer, batch, units].

        All steps of a batch share one mask (Gal and Ghahramani, "A Theoretically Grounded
        Application of Dropout in Recurrent Neural Networks", 2016). It depends on the seed and the
        iteration alone, so a resumed run draws the same masks as one that was never stopped.
        """
        if settings.keep_prob == 1:
            return None
        shape = [settings.num_layers, settings.batch_size, settings.rnn_size]
        iteration = tf.cast(tf.train.get_or_create_global_step(), tf.int32)
        noise = tf.random.stateless_uniform(shape, [settings.seed % 2**31, iteration])  # both int32
        noise = noise[:, workers.rows(settings.batch_size)]
        return tf.floor(noise + settings.keep_prob) / settings.keep_prob

    def _build_training(self, settings):
        """One step of AdamW on the cost, then an update of the averaged weights."""
        self.learning_rate = tf.placeholder(tf.float32, [], 'learning_rate')
        variables = tf.trainable_variables()
        # The gradient of the embedding may be IndexedSlices, with one row for each character read.
        # Converted to a matrix, the rows of a character add up, and the global norm is right.
        gradients = map(tf.convert_to_tensor, tf.gradients(self.cost, variables))
        self.loss, *self.gradients = workers.mean([self.loss, *gradients])
        max_norm = settings.max_gradient_norm
        clipped, self.gradient_norm = tf.clip_by_global_norm(self.gradients, max_norm)
        self.iteration = tf.train.get_or_create_global_step()  # int64, steps taken so far
        # Wait for all gradients: no weight may change while another gradient still reads it.
        with tf.control_dependencies(clipped):
            # Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.
            decay = settings.weight_decay * self.learning_rate
            decayed = [tf.assign_sub(variable, decay * variable) for variable in variables]
        with tf.control_dependencies(decayed):
            optimizer = tf.train.AdamOptimizer(self.learning_rate)
            step = optimizer.apply_gradients(zip(clipped, variables), self.iteration)
        # With the step count, early averages cover only the last tenth of the run so far.
        self.averages = tf.train.ExponentialMovingAverage(settings.average_decay, self.iteration)
        with tf.control_dependencies([step]):
            self.train_op = self.averages.apply(variables)

    def _read(self, ids, state):
        """Read ids [batch, time]; return outputs [time, batch, rnn_size] and the final state."""
        inputs = tf.nn.embedding_lookup(self.embedding_mat, tf.transpose(ids))
        state = unpack_state(state)
        return tf.nn.dynamic_rnn(self.stack, inputs, initial_state=state, time_major=True)

    def _build_reading(self):
        """Logits and losses for texts of any number and length, by a loop inside the graph."""
        outputs, final_state = self._read(self.x_data, self.initial_state)
        self.final_state = pack_state(final_state)
        logits = tf.tensordot(outputs, self.W, 1) + self.b
        self.logits = tf.transpose(logits, [1, 0, 2])  # [batch, time, vocab_size]
        self.losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=self.y_output, logits=self.logits
        )  # [batch, time]
        self.probabilities = tf.nn.softmax(self.logits)

    def _build_sampling(self, unseen, top_k):
        """Draw whole texts in one session call, by a loop inside the graph."""
        self.prime = tf.placeholder(tf.int32, [None, None], 'prime')  # [streams, characters]
        self.temperature = tf.placeholder(tf.float32, [], 'temperature')
        # Uniform random numbers in [0, 1), [streams, num]. An export makes its own.
        self.num = tf.placeholder(tf.int32, [], 'num')
        self.seed = tf.placeholder(tf.int32, [2], 'seed')
        own = lstm.noise(self.prime, self.num, self.seed)
        self.noise = tf.placeholder_with_default(own, [None, None])
        zeros = pack_state(self.stack.zero_state(tf.shape(self.prime)[0], tf.float32))
        self.sampling_state = tf.placeholder_with_default(zeros, self.initial_state.shape)
        # The first step of the loop reads the last character.
        _, state = self._read(self.prime[:, :-1], self.sampling_state)
        # At temperature 0 the scale is so large that only the likeliest character is ever drawn.
        # (1e30 times a logit still fits into a float32.)
        scale = 1 / tf.maximum(self.temperature, 1e-30)
        noise = tf.transpose(self.noise)[:, :, None]  # [num, streams, 1]
        num = tf.shape(noise)[0]
        never = np.isin(range(self.b.shape[0].value), [0, *unseen])  # 0 is 'unknown'
        self.b_to_draw = tf.where(never, tf.fill(self.b.shape, -np.inf), self.b)

        def step(position, character, state, sampled):
            inputs = tf.nn.embedding_lookup(self.embedding_mat, character)  # [streams, embedding]
            output, state = self.stack(inputs, state)
            logits = (tf.matmul(output, self.W) + self.b_to_draw) * scale  # [streams, vocab_size]
            if top_k:
                lowest = tf.nn.top_k(logits, min(top_k, logits.shape[1].value))[0][:, -1:]
                logits = tf.where(logits < lowest, tf.fill(tf.shape(logits), -np.inf), logits)
            # Draw the first character whose cumulative probability exceeds the random number.
            sums = tf.cumsum(tf.nn.softmax(logits), axis=1)
            chance = tf.gather(noise, position) * sums[:, -1:]  # 1, except for rounding
            drawn = tf.reduce_sum(tf.cast(sums <= chance, tf.int32), axis=1)
            return position + 1, drawn, state, sampled.write(position, drawn)

        *_, final_state, sampled = tf.while_loop(
            lambda position, *_: position < num,
            step,
            (0, self.prime[:, -1], state, tf.TensorArray(tf.int32, num)),
            parallel_iterations=1,  # each step needs the one before
        )
        self.sampled_state = pack_state(final_state)  # the last character has not been read yet
        self.sampled = tf.transpose(sampled.stack())  # [streams, num]

    def sample(self, session, prime, num, temperature, random, state=None):
        """Return how texts continue, int32 [streams, num], and the state before the last character.

        Args:
          prime: int32 [streams, characters], at least one character.
          num: int, characters to draw for each stream.
          temperature: float; 0 draws the likeliest character.
          random: list of np.random.RandomState, one for each stream (see `random_of`).
          state: the state that an earlier call returned; None at the start of a text.
        """
        # Multiples of 2**-23 stay below 1 as float32.
        noise = np.stack([one.randint(2**23, size=num) for one in random]) / 2**23
        feed = {self.prime: prime, self.noise: noise, self.temperature: temperature}
        if state is not None:
            feed[self.sampling_state] = state
        return session.run([self.sampled, self.sampled_state], feed, machine.in_this_thread())


def random_of(prime, number, *seeds):
    """Return the np.random.RandomState of a sample.

    It depends on the prime text and the number alone: another prime text draws other numbers, and a
    sample is the same whatever else is drawn.

    Args:
      prime: int32 [1, characters].
      number: int, how many earlier samples have the same prime text.
      seeds: int, one or more.
    """
    return np.random.RandomState([*seeds, zlib.crc32(prime), number])


def unpack_state(state):
    """Return one tensor as the tuple of LSTMStateTuple that a MultiRNNCell takes."""
    layers = [tf.unstack(layer) for layer in tf.unstack(state)]
    return tuple(tf.contrib.rnn.LSTMStateTuple(c, h) for c, h in layers)


def pack_state(layers):
    """Return one tensor [num_layers, 2, batch, rnn_size]: the inverse of `unpack_state`."""
    return tf.stack([tf.stack(layer) for layer in layers], name='state')


def build_models(settings, vocab_size, unseen=()):
    """Return the training model, and a model with its averaged weights that measures and samples.

    While the learning rate is high, the average of the last weights predicts better than the
    weights do (Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992).
    At the end of a run, at a rate near 0, both are the same.
    """
    tf.set_random_seed(settings.seed)
    with tf.variable_scope('lstm_model', custom_getter=lstm.weights_by_name):
        model = LSTM_Model(settings, vocab_size)

    def averaged(getter, name, *arguments, **more):
        return model.averages.average(getter(name, *arguments, **more))

    with tf.variable_scope('lstm_model', reuse=True, custom_getter=averaged):
        sampler = LSTM_Model(settings, vocab_size, infer_sample=True, unseen=unseen)
    return model, sampler


# --- Training ------------------------------------------------------------------------------------


def highest_rate(settings):
    """Return the peak learning rate; the default was measured (docs/measurements/rates.md).

    Large batches need a higher rate (Malladi et al., "On the SDEs and Scaling Rules for Adaptive
    Gradient Algorithms", 2022), and so do narrow or shallow models (Yang et al., "Tensor Programs
    V", 2022, and "VI", 2023).
    """
    batch = settings.batch_size * settings.training_seq_len  # characters
    factor = max(1, 128 / settings.rnn_size) * max(1, 3 / settings.num_layers) ** 0.5
    factor *= np.clip(batch / 5000, 1, 4) ** 0.5
    return settings.learning_rate or 0.03 * min(4, factor)


def learning_rate_at(iteration, num_iterations, settings):
    """Return the learning rate of an iteration (from 1): a linear warm-up, then a cosine to 0.

    The warm-up follows Goyal et al., "Accurate, Large Minibatch SGD", 2017; the cosine follows
    Loshchilov and Hutter, "SGDR", 2017.
    """
    peak, warmup = highest_rate(settings), settings.warmup_iterations
    if iteration <= warmup:
        return peak * iteration / warmup
    done = (iteration - warmup) / (num_iterations + 1 - warmup)  # always below 1
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def measure(session, model, what, ids, start, batch_size, training_seq_len, stop=None):
    """Return the means of tensors [batch, time] over all of `ids` from position `start` on: a list.

    The text is read as `batch_size` streams side by side; each worker reads its share. Each stream
    first reads the characters just before its own, which do not count, so that its state is not
    empty. If a worker is asked to stop meanwhile, the result is None.
    """
    per_stream = math.ceil((len(ids) - start) / batch_size)
    streams = np.arange(batch_size)[workers.rows(batch_size), None]
    starts = start + streams * per_stream  # [streams, 1]
    ends = np.minimum(starts + per_stream, len(ids))
    state = model.zero_state(len(streams))
    totals = np.zeros(len(what))
    for first in report.measuring(range(-training_seq_len, per_stream, training_seq_len)):
        if stop and stop.signal:
            totals = None
            break
        targets = starts + first + np.arange(training_seq_len)  # positions, [streams, time]
        feed = {
            model.x_data: ids[np.clip(targets - 1, 0, len(ids) - 1)],
            model.y_output: ids[np.clip(targets, 0, len(ids) - 1)],
            model.initial_state: state,
        }
        values, state = session.run([what, model.final_state], feed)
        if first < 0:
            state[:, :, starts[:, 0] <= training_seq_len] = 0  # too few are before these streams
        else:
            totals += [value[targets < ends].sum(dtype=np.float64) for value in values]
    totals = workers.gather(totals)
    return None if any(t is None for t in totals) else list(sum(totals) / (len(ids) - start))


def train(settings, stop, run_folder):
    """Train a model; write its checkpoints, vocabulary, history and plot to `temp_dir`.

    Returns:
      The Run, with its losses, and the exit status: 0, or the status of a stop.
    """
    machine.check_device(settings.device)
    ix2vocab, split, text = workers.once_per_host(prepare_text, settings)
    machine.check_memory(settings, len(ix2vocab), workers.count(), workers.count_on_host())
    shape = settings.batch_size, settings.training_seq_len
    num_batches = batches_per_epoch(split, *shape)
    run_folder.decide(text['text_crc'], num_batches)  # whether to resume the run there
    num_iterations = count_iterations(settings, num_batches)
    if not run_folder.is_finished:
        plan = settings, len(ix2vocab), split, num_iterations, highest_rate(settings)
        print('\n'.join(report.describe_plan(*plan)))
    print('Building the graph')
    stop.listen()  # from here on Ctrl-C saves the run before it ends the program
    with machine.new_graph() as graph:
        model, sampler = build_models(settings, len(ix2vocab), text['unseen'])
        run = saving.Run(settings, model, run_folder)
        graph.finalize()  # adding an operation later would be an error
    config = machine.session_config(settings.threads_per_operation, settings.device)
    with tf.Session(graph=graph, config=config) as session:
        record = {**text, 'num_batches': num_batches}
        state = run.start_or_resume(session, num_iterations, ix2vocab, record)
        iteration = done = len(run.losses)
        # Training reads from the disk, so a text may be larger than memory.
        ids = reading.Ids(f'{settings.temp_dir}/text.ids', reading.id_type(ix2vocab))
        if done < run.last:
            print(f'Training on {machine.device_in_use(session, settings.device)}')
        board = report.Board(settings, graph, done, run.has_more())
        bar = report.progress_bar(done, run.last, settings)

        def measure_held_out():
            """Measure the held-out loss, unless a stop is requested."""
            bar.set_postfix_str('measuring the held-out loss')
            means = measure(session, sampler, [sampler.losses], ids, split, *shape, stop)
            bar.set_postfix_str(f'loss {run.losses[-1]:.2f}')
            if means:
                running.check_finite(iteration, *means)
                bar.write(f'Held-out loss: {report.describe_loss(*means)}')
                run.held_out_losses.append((iteration, *means))
                board.add_held_out(iteration, *means, session)

        is_over = done == run.last
        if run.is_unmeasured():  # the run was stopped before its held-out loss was measured
            measure_held_out()
            (is_over,) = workers.any_of(run.is_over() and not run.is_unmeasured())
            run.save(session, state, is_end=is_over)
        if done:
            pictures.save_if_possible(run.plot, draw_losses, *run.all_losses())
        for iteration in () if is_over else range(done + 1, run.last + 1):
            epoch, batch = (iteration - 1) // num_batches + 1, (iteration - 1) % num_batches + 1
            if batch == 1:
                bar.write(f'Starting Epoch #{epoch} of {math.ceil(run.last / num_batches)}.')
                state = np.zeros_like(state)  # the streams start over
            offset = stream_offset(settings.seed, epoch, settings.training_seq_len)
            x, y = read_batch(ids[:split], *shape, offset, batch - 1, workers.rows(shape[0]))
            rate = learning_rate_at(iteration, run.last, settings)
            feed = {model.x_data: x, model.y_output: y, model.initial_state: state}
            wanted = [model.loss, model.gradient_norm, model.final_state, model.train_op]
            loss, norm, state, _ = session.run(wanted, {**feed, model.learning_rate: rate})
            running.check_finite(iteration, loss, norm)
            run.losses.append(loss)
            bar.set_postfix_str(f'loss {loss:.2f}', refresh=False)
            bar.update(x.size * workers.count())

            # From time to time: a line, samples, the held-out loss, a checkpoint and the plot
            if iteration % settings.log_every == 0:
                where = f'Epoch: {epoch}, Batch: {batch} out of {num_batches}'
                bar.write(f'Iteration: {iteration}, {where}, Loss: {loss:.2f}')
                board.add_step(iteration, loss, norm, rate)
            if iteration % settings.eval_every == 0:
                texts = sample_texts(session, sampler, ix2vocab, iteration, settings, stop)
                bar.write(report.shown('\n'.join(texts), sys.stdout))
                board.add_texts(iteration, 'samples', texts)
                bar.unpause()
            stopped, asked = workers.any_of(bool(stop.signal), stop.wants_save())
            if run.is_due() and not stopped:
                measure_held_out()
                stopped, is_over = workers.any_of(bool(stop.signal), run.is_over())
            if run.is_due() or stopped or asked:
                is_saved = run.save(session, state, is_end=stopped or is_over)
                if asked and is_saved:
                    bar.write(f'Saved at iteration {iteration}')
                pictures.save_if_possible(run.plot, draw_losses, *run.all_losses())
                bar.unpause()  # the bar shows the speed of training alone
            if stopped or is_over:
                break
        bar.close()
        board.close()
        if workers.any_of(bool(stop.signal))[0] and (run.is_unmeasured() or not is_over):
            how = 'The same command' + ', with --restart=False,' * settings.restart
            print(f'Stopped after iteration {iteration}. {how} resumes it')
            return run, stop.status
        texts = sample_texts(session, sampler, ix2vocab, iteration, settings, stop, times=4)
        print(report.shown('\n'.join(texts), sys.stdout))
    return run, 0


# --- Samples, and the plot -----------------------------------------------------------------------


def sample_texts(session, sampler, ix2vocab, iteration, settings, stop, times=1):
    """Return each prime text, with the text that the model adds to it: list of str.

    `times` multiplies `sample_length`. A stop ends the samples early. Each worker draws some.
    """
    texts = {}
    primes = [encode(text, ix2vocab, settings.clean_text) for text in settings.prime_texts]
    for k, begin in list(enumerate(primes))[workers.rank() :: workers.count()]:
        number = sum(np.array_equal(begin, earlier) for earlier in primes[:k])
        random = [random_of(begin, number, settings.seed, iteration)]
        last, state, ids = begin, None, list(begin[0])
        end = len(ids) + times * settings.sample_length
        while len(ids) < end and not stop.signal:
            num = min(5000, end - len(ids))  # so that a stop takes effect soon
            drawn, state = sampler.sample(session, last, num, settings.temperature, random, state)
            ids.extend(drawn[0])
            last = drawn[:, -1:]
        texts[k] = decode(ids, ix2vocab)
    texts = {k: text for part in workers.gather(texts) for k, text in part.items()}
    return [texts[k] for k in range(len(primes))]


def draw_losses(figure, losses, held_out_losses):
    """Draw losses (nats) and held-out losses (pairs of iteration and nats) on a Figure."""
    axes = figure.add_subplot(1, 1, 1)
    axes.plot(*pictures.thinned(losses), color='#c8c8c8', linewidth=0.8, label='each iteration')
    means, middles, width = pictures.smoothed(losses)
    axes.plot(middles, means, color=pictures.COLORS[0], label=f'mean of up to {width}')
    held_out = np.reshape(held_out_losses, (-1, 2)).T  # iterations, values
    axes.plot(*held_out, 'o-', color=pictures.COLORS[1], markersize=4, label='held-out')
    pictures.finish_loss_axes(axes, losses)


# --- Main ----------------------------------------------------------------------------------------


def main(arguments):
    """Train as the constants above and the command line say; return the exit status."""
    settings = read_settings(globals(), arguments)
    workers.join(settings)
    with running.Stop() as stop, workers.together(), only_run_in(settings, __file__) as run_folder:
        run, status = train(settings, stop, run_folder)
        if status == 0:
            report.print_end(run)
        run_folder.print_end()
    if status == 0 and settings.show_plot:
        pictures.show(draw_losses, *run.all_losses())
    return status


if __name__ == '__main__':
    sys.exit(running.run(main, sys.argv[1:]))
