"""What is measured: each kind of step in a process of its own. (`turns.Stepper` starts it.)

    python benchmarks/steps.py NAME [a setting, such as --rnn_size=64 ...]

A process of its own, since TensorFlow's thread settings hold for a whole process. With CHECKOUT in
the environment the script of another checkout of this project is measured. Each function yields
once when it is ready, and then after each step.
"""

import contextlib
import functools
import glob
import itertools
import sys
import tempfile

from shared import VOCAB_SIZE, machine, parse, script, tf

# isort: split
import numpy as np
import recipe
import variants
from turns import serve

DRAWN = 1000  # characters in each step of those that draw


@contextlib.contextmanager
def started(settings, config=None, vocab_size=VOCAB_SIZE):
    """Yield a session with the models of the script, and both: the one that learns comes first."""
    with machine.new_graph() as graph:
        model, sampler = script.build_models(settings, vocab_size)
        initialize = tf.global_variables_initializer()
    config = config or machine.session_config(settings.threads_per_operation)
    with tf.Session(graph=graph, config=config) as session:
        session.run(initialize)
        yield session, model, sampler


def prepared_text(*arguments):
    """Return the settings, and the ids and the split of the text. The ids go with the process."""
    with tempfile.TemporaryDirectory() as folder:
        settings = parse(*arguments, f'--temp_dir={folder}')
        ix2vocab, split, _ = script.prepare_text(settings)
        (path,) = glob.glob(f'{folder}/text.ids*')
        return settings, np.memmap(path, script.reading.id_type(ix2vocab), 'r'), split


def repeat(step):
    yield
    while True:
        step()
        yield


def script_steps(*arguments, config=None, **how):
    """Training steps of the script, as in `script.train`, with what else session.run is to get."""
    settings, ids, split = prepared_text(*arguments)
    shape = settings.batch_size, settings.training_seq_len
    num_batches = script.batches_per_epoch(split, *shape)
    with started(settings, config, 1 + int(ids.max())) as (session, model, _):
        state = model.zero_state(shape[0])
        wanted = [model.cost, model.gradient_norm, model.final_state, model.train_op]
        yield
        for number in itertools.cycle(range(num_batches)):
            x, y = script.read_batch(ids[:split], *shape, 0, number)
            feed = {model.x_data: x, model.y_output: y, model.initial_state: state}
            feed[model.learning_rate] = script.highest_rate(settings)
            _, _, state, _ = session.run(wanted, feed, **how)
            yield


def default_steps(*arguments):
    """The same, in a session with TensorFlow's default options."""
    return script_steps(*arguments, config=tf.ConfigProto())


def variant_steps(names, *arguments):
    """The same with something in the script replaced, as variants.py does."""
    variants.replace(names)
    return script_steps(*arguments)


def recipe_steps(*arguments):
    """Training steps of the recipe."""
    settings, ids, split = prepared_text(*arguments)
    shape = settings.batch_size, settings.training_seq_len
    with recipe.started(settings, 1 + int(ids.max()), *shape) as (session, model):
        state = session.run(model.initial_state)
        yield
        for _, x, y in recipe.training_batches(ids[:split], *shape, settings.epochs, seed=1):
            _, state = model.train_step(session, x, y, state)
            yield


def product_steps(*_):
    """Products of two 2048 x 2048 matrices on all cores: what the rates are compared with."""
    config = tf.ConfigProto(intra_op_parallelism_threads=machine.available_cores())
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    a, b = (tf.Variable(np.random.rand(2048, 2048).astype(np.float32)) for _ in 'ab')
    product = tf.matmul(a, b).op
    with tf.Session(config=config) as session:
        session.run(tf.global_variables_initializer())
        yield from repeat(lambda: session.run(product))


def build_steps(*arguments):
    """Graphs with both models."""

    def build():
        with machine.new_graph():
            script.build_models(parse(*arguments), VOCAB_SIZE)

    return repeat(build)


def prepare_steps(*arguments):
    """Each step prepares a text."""
    return repeat(lambda: prepared_text(*arguments))


def draw_one(*_, streams=1):
    """Each step draws 1,000 characters with the script."""
    with started(parse()) as (session, _, sampler):
        prime = np.ones([streams, 1], np.int32)
        random = [script.random_of(prime[:1], number, 1) for number in range(streams)]
        yield from repeat(lambda: sampler.sample(session, prime, DRAWN // streams, 1.0, random))


draw_hundred = functools.partial(draw_one, streams=100)  # at once


def recipe_draws(*_):
    """Each step draws 1,000 characters with the recipe."""
    random = np.random.RandomState(0)
    with recipe.started(parse(), VOCAB_SIZE, 1, 1) as (session, model):
        yield from repeat(lambda: model.draw(session, DRAWN, random))


def held_out_steps(*arguments):
    """Each step measures the held-out loss."""
    settings, ids, split = prepared_text(*arguments)
    how = ids, split, settings.batch_size, settings.training_seq_len
    with started(settings) as (session, _, sampler):
        yield from repeat(lambda: script.measure(session, sampler, [sampler.losses], *how))


def sample_steps(*arguments):
    """Each step draws the samples that are shown while training."""
    how = [script.UNKNOWN, *script.CHARACTERS], 1, parse(*arguments)
    with started(parse(*arguments)) as (session, _, sampler), script.running.Stop() as stop:
        yield from repeat(lambda: script.sample_texts(session, sampler, *how, stop))


def save_steps(iterations, *arguments):
    """Each step is a save of a run after so many iterations, also of its best model and plot."""

    def save():
        run.losses.append(1.2)
        run.held_out_losses.append((len(run.losses), 2 - 1e-9 * len(run.losses)))
        run.save(session, state, is_end=True)
        script.pictures.save(run.plot, script.draw_losses, *run.all_losses())

    with tempfile.TemporaryDirectory() as folder:
        settings = parse(*arguments, f'--temp_dir={folder}')
        with script.only_run_in(settings, script.__file__) as run_folder:
            ix2vocab, _, text = script.prepare_text(settings)
            run_folder.decide(text['text_crc'], 1)
            model, _ = script.build_models(settings, VOCAB_SIZE)
            run = script.saving.Run(settings, model, run_folder)
            with tf.Session(config=machine.session_config()) as session:
                state = run.start_or_resume(session, sys.maxsize, ix2vocab, text)
                run.losses.extend(1.2 + 3 / np.sqrt(np.arange(1, int(iterations) + 1)))
                yield from repeat(save)


def board_steps(*arguments):
    """Each step writes what TensorBoard gets from one save to the next."""

    def write():
        for _ in range(settings.save_every // settings.log_every):
            board.add_step(1, 2.0, 1.0, 0.01)
        for _ in range(settings.save_every // settings.eval_every):
            board.add_texts(1, 'samples', ['x' * 100] * 3)
        board.add_held_out(1, 2.0, session)

    with tempfile.TemporaryDirectory() as folder:
        settings = parse(*arguments, f'--temp_dir={folder}')
        with started(settings) as (session, _, _):
            board = script.report.Board(settings, session.graph, 0, True)
            yield from repeat(write)


if __name__ == '__main__':
    name, *arguments = sys.argv[1:]
    with tf.Graph().as_default():
        serve(globals()[name](*arguments))
