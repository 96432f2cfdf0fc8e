"""Random numbers that follow from the seed, and from where they are used, alone.

So a run begins alike on every TensorFlow, and goes on as if nothing had stopped it.
"""

import zlib

from backstage import tf, workers


def by_name(getter, name, *arguments, initializer=None, **more):
    """Get a variable: a custom_getter, for weights that begin as the seed and their name say.

    Else it depends on how many operations a graph had before. The values are those of
    `glorot_uniform_initializer` if no initializer is given.
    """
    initializer = tf.glorot_uniform_initializer() if initializer is None else initializer
    if callable(initializer):  # else it is a value
        initializer.seed = zlib.crc32(name.encode()) % 2**31
    return getter(name, *arguments, initializer=initializer, **more)


def noise(prime, num, seed):
    """Return numbers from 0 up to 1 to draw texts by: float32 [streams, num].

    They follow from the seed, int32 [2], from how a text begins, a row of `prime`, and from how
    often one that begins so came before it; not from what else is drawn.
    """
    words = tf.concat([tf.tile(seed[None], [tf.shape(prime)[0], 1]), prime], axis=1)
    begins = tf.strings.reduce_join(tf.as_string(words), axis=1, separator=' ')
    begins = tf.strings.to_hash_bucket_fast(begins, 2**31)
    is_same = tf.cast(tf.equal(begins[:, None], begins), tf.int64)  # [streams, streams]
    numbers = tf.reduce_sum(tf.linalg.band_part(is_same, -1, 0), axis=1)  # of those before it
    seeds = tf.stack([begins, numbers], axis=1)

    def numbers_of(
        one,
    ):  # by an operation that 1.15 has too, so that it can load what a 2.x exports
        return tf.raw_ops.StatelessRandomUniform(shape=[num], seed=one, dtype=tf.float32)

    return tf.map_fn(numbers_of, seeds, tf.float32)


def drop_out(cells, settings):
    """Return cells with dropout of what each puts out, by one mask for all time steps of a batch.

    Gal and Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks", 2016. The masks that the wrapper would make depend on how often TensorFlow was asked
    for random numbers, which no checkpoint holds.
    """
    shape = [settings.num_layers, settings.batch_size, settings.rnn_size]
    iteration = tf.cast(tf.train.get_or_create_global_step(), tf.int32)
    noise = tf.random.stateless_uniform(shape, [settings.seed % 2**31, iteration])  # both int32
    noise = noise[:, workers.rows(settings.batch_size)]
    masks = tf.unstack(tf.floor(noise + settings.keep_prob) / settings.keep_prob)
    wrappers = []
    for cell, mask in zip(cells, masks):
        wrapper = tf.contrib.rnn.DropoutWrapper(cell, output_keep_prob=settings.keep_prob)
        wrapper._dropout = lambda output, *_, mask=mask: output * mask
        wrappers.append(wrapper)
    return wrappers
