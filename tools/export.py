"""Export a trained model as a SavedModel for TensorFlow Serving and for other programs.

    python -m tools.export --folder=serving/shakespeare/1

Its signatures are `probabilities`; `generate`, which is also `serving_default`; and `step`, for
other runtimes. Its asset is the vocabulary: a JSON list of the symbols, in order of id.
"""

import contextlib
import glob
import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

import stacked_lstm_shakespeare as script
from backstage import files, running, tf
from backstage.settings import UserError, read_settings
from tools import trained

# --- Settings ------------------------------------------------------------------------------------

temp_dir = script.temp_dir  # folder of the run
checkpoint = ''  # the model to use, such as temp/model-9070; empty: the best so far
folder = 'serving/shakespeare/1'  # a new folder; the number is the model's version
device = 'auto'  # 'cpu', 'gpu', or 'auto': a GPU if TensorFlow finds one

RANGES = {'checkpoint': 'path', 'folder': 'folder'}


def signatures_of(sampler):
    """Return the signatures of a SavedModel: a dict from names to SignatureDef."""
    signature = tf.saved_model.predict_signature_def
    probabilities = signature(
        {'ids': sampler.x_data, 'initial_state': sampler.initial_state},
        {'probabilities': sampler.probabilities, 'final_state': sampler.final_state},
    )
    inputs = {name: getattr(sampler, name) for name in ['prime', 'num', 'temperature', 'seed']}
    generate = signature(inputs, {'ids': sampler.sampled})
    return {
        'probabilities': probabilities, 'generate': generate, 'step': step_of(sampler),
        tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: generate,
    }  # fmt: skip


def step_of(sampler):
    """Return the signature `step`: the probabilities after one more character of each text.

    It has no loop. It uses `lstm_cell` instead of the faster `stack`, because neither TensorFlow
    Lite nor ONNX supports LSTMBlockCell. In `to_draw`, symbols that are never drawn have
    probability 0.
    """
    ids = tf.placeholder(tf.int32, [None])  # [batch]
    inputs = tf.nn.embedding_lookup(sampler.embedding_mat, ids)
    state = script.unpack_state(sampler.initial_state)
    output, final_state = sampler.lstm_cell(inputs, state)
    scores = tf.matmul(output, sampler.W)  # [batch, vocab_size]
    return tf.saved_model.predict_signature_def(
        {'ids': ids, 'state': sampler.initial_state},
        {
            'probabilities': tf.nn.softmax(scores + sampler.b),
            'to_draw': tf.nn.softmax(scores + sampler.b_to_draw),
            'state': script.pack_state(final_state),
        },
    )


def main(arguments):
    """Export the model. The folder appears only when it is complete."""
    settings = read_settings(globals(), arguments)
    target = os.path.abspath(settings.folder)
    if os.path.lexists(target):
        raise UserError(f'{settings.folder} already exists. Set folder to a new one')
    with trained.opened(settings) as (session, sampler, _, _, path):
        vocabulary = tf.constant(os.path.join(settings.temp_dir, 'vocabulary.json'))
        parent, part = os.path.dirname(target), files.part_of(target)
        files.make_folder(parent, 'folder')
        files.remove_leftovers(os.path.join(glob.escape(parent), '*'))
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, part, ignore_errors=True)  # if it is incomplete
            builder = tf.saved_model.Builder(part)
            builder.add_meta_graph_and_variables(
                session, [tf.saved_model.SERVING], signatures_of(sampler),
                assets_collection=[vocabulary], strip_default_attrs=True,
            )  # fmt: skip
            builder.save()
            for left in glob.glob(f'{glob.escape(part)}/variables/*_temp_*'):
                shutil.rmtree(left)  # TensorFlow ignores a failure to remove these
            files.reach_disk(*glob.glob(f'{glob.escape(part)}/**', recursive=True))
            os.rename(part, target)
            files.reach_disk(parent)
    print(f'Model: {path}')
    print(f'The SavedModel is {settings.folder}')


if __name__ == '__main__':
    sys.exit(running.run(main, sys.argv[1:]))
