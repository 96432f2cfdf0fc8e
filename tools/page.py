"""Write a web page in which a trained model reads and writes text.

    python -m tools.page

The page is temp/page.html. It is a single file that contains the weights: the model runs in the
browser, and the page loads nothing else. It shows the activation of each unit while the model
reads, after Karpathy, Johnson and Li, "Visualizing and Understanding Recurrent Networks", 2015.
"""

import base64
import itertools
import json
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

import stacked_lstm_shakespeare as script
from backstage import files, machine, reading, running
from backstage.lstm import FORGET_BIAS
from backstage.settings import UserError, read_settings
from backstage.sources import text_path
from stacked_lstm_shakespeare import decode, encode, held_out_begin, read_text
from tools import trained

import numpy as np

# --- Settings ------------------------------------------------------------------------------------

temp_dir = script.temp_dir  # folder of the run; the page goes there too
checkpoint = ''  # the model to use, such as temp/model-9070; empty: the best so far
text_file = ''  # a UTF-8 text to read; empty: the held-out part of the run's own text
characters = 10000  # how many characters to read, from the beginning of the text
full_precision = False  # 32-bit weights; False: 16-bit weights, half the size
device = 'auto'  # 'cpu', 'gpu', or 'auto': a GPU if TensorFlow finds one

RANGES = {'checkpoint': 'path', 'characters': (1, 100_000), 'full_precision': bool}

MOST = 30e6  # largest page, in bytes

# Features of a text that a unit may follow: regular expressions. Each match is a passage.
WORD = r"[^\W\d_]+(?:['’-]+[^\W\d_]+)*"
INSIDE = {
    'inside a word': WORD,
    'the first letter of a word': r"(?<![\w'’-])[^\W\d_]",
    'a vowel': '[aeiouAEIOU]',
    'a capital letter': '[A-ZÀ-ÖØ-ÞΑ-ΩА-ЯЁ]',
    'a digit': r'\d',
    'punctuation': '[.,:;!?]',
    'after a quote': r"(?<=[\"“”'‘’])[^\W\d_]+",  # or an apostrophe, which looks the same
    'inside quotes': r'"(?:(?!\n\n)[^"])*"?|“(?:(?!\n\n)[^”])*”?',
    'inside brackets': r'[(\[](?:[(\[][^()\[\]]*[)\]]|(?!\n\n)[^()\[\]])*[)\]]?',
    'the indentation of a line': r'(?m)^[ \t]+',
    'the first line after an empty one': r'(?<=\n\n).+',
}
POSITION = {
    'position in the word': WORD,
    'position in the line': '.+',
    'position in the sentence': '[^.!?]+',
}
PASSAGES = 20  # fewest passages of a feature; with fewer, some unit would follow them by chance
# A unit is named for a feature if their correlation exceeds NAMED. By chance, with the values of
# the feature shifted along the text, it was at most 0.21.
NAMED = 0.5
# It must also exceed the correlation of any unit before training by LEARNED. A memory that fills up
# follows a position without training: by 0.54 to 0.69 in five models.
LEARNED = 0.1
AT_MOST = 5  # units named for the same thing


def read_ids(settings, run, ix2vocab):
    """Return the text to read, integers [characters], and its name.

    Raises:
      UserError: the text cannot be read, or the model knows no character of it.
    """
    if settings.text_file:
        name = settings.text_file
        with tempfile.TemporaryDirectory() as folder, text_path(settings, folder) as path:
            pieces = itertools.chain.from_iterable(read_text(path, run.clean_text))
            text = ''.join(itertools.islice(pieces, settings.characters))
        ids = encode(text, ix2vocab, run.clean_text)[0]
    else:
        ids, name = trained.own_ids(run, ix2vocab)
        name = f'the held-out part of {name}'
        begin = held_out_begin(len(ids), run.held_out)
        ids = np.array(ids[begin : begin + settings.characters])
    if not ids.any():
        raise UserError(
            f'{name} has no character that the model knows. Set text_file to another file'
        )
    return ids, name


def read(session, sampler, ids):
    """Let a model read a text, int [characters], one character at a time.

    Returns:
      tanh(c) of all units after each character, float32 [characters, layers, units]: the output of
      a cell with an open output gate.
    """
    state, rows = sampler.zero_state(1), []
    for ix in ids:
        feed = {sampler.x_data: [[ix]], sampler.initial_state: state}
        state = session.run(sampler.final_state, feed, machine.in_this_thread())
        rows.append(np.tanh(state[:, 0, 0]))
    return np.array(rows)


def features_of(text):
    """Return the features of a text: a dict from names to float32 [characters].

    In a passage, a feature of INSIDE is 1 and one of POSITION counts from 1. Elsewhere, both are 0.
    """
    features = {}
    for name, pattern in {**INSIDE, **POSITION}.items():
        values = np.zeros(len(text), np.float32)
        spans = [match.span() for match in re.finditer(pattern, text)]
        for begin, end in spans:
            values[begin:end] = np.arange(1, end - begin + 1) if name in POSITION else 1
        if len(spans) >= PASSAGES and values.std() > 0:
            features[name] = values
    return features


def correlations(values, activations):
    """Return Pearson's r of values [characters] with each unit: float [layers, units].

    It is 0 for a unit that does not change.
    """
    centred = activations - activations.mean(axis=0)
    sums = np.tensordot(values - values.mean(), centred, 1)
    scale = np.sqrt(np.square(centred).sum(axis=0) * values.var() * len(values))
    return sums / np.maximum(scale, 1e-9)


def named_units(features, activations, before):
    """Return the units that follow a feature, a list of (name of the feature, layer, unit, r).

    `before` holds the activations of the same units before training. Layers and units count from 0.
    Each unit is named once, for the feature that it follows best. The list is grouped by feature,
    best first.
    """
    if not features:
        return []
    r = np.array([correlations(values, activations) for values in features.values()])
    best = np.abs(r).argmax(axis=0)  # [layers, units]
    groups = []
    for i, (name, values) in enumerate(features.items()):
        least = max(NAMED, np.abs(correlations(values, before)).max() + LEARNED)
        places = np.argwhere((best == i) & (np.abs(r[i]) > least)).tolist()
        group = [(name, layer, unit, float(r[i, layer, unit])) for layer, unit in places]
        groups.append(sorted(group, key=lambda named: -abs(named[3]))[:AT_MOST])
    groups = sorted(filter(None, groups), key=lambda group: -abs(group[0][3]))
    return list(itertools.chain(*groups))


def weights_of(session, sampler):
    """Return the weights in the layout of the page: a dict of float32 arrays.

    The weights of a unit are contiguous, with the four gates of an input next to each other:
    `kernel` is [units, width + units, 4], `bias` is [units, 4]. `W` is [vocab_size, units].
    """
    embedding, W, b, layers = session.run(
        [sampler.embedding_mat, sampler.W, sampler.b, sampler.stack.weights]
    )
    weights = {'embedding': embedding, 'W': W.T, 'b': b}
    for number, (kernel, bias) in enumerate(layers):
        gates = kernel.reshape(len(kernel), 4, -1)  # i, j, f and o, as in a BasicLSTMCell
        weights[f'kernel{number}'] = gates.transpose(2, 0, 1)
        weights[f'bias{number}'] = bias.reshape(4, -1).T
    return weights


def packed(weights, full_precision):
    """Return weights in a form for JSON: numbers in base64, and a scale to multiply them by.

    The numbers are float32 or 16-bit integers. (float16 would round large weights more.)
    """
    scale = 1.0 if full_precision else float(np.abs(weights).max()) / 32767 or 1.0
    numbers = weights if full_precision else np.rint(weights / scale)
    content = numbers.astype('<f4' if full_precision else '<i2').tobytes()
    return {'numbers': base64.b64encode(content).decode(), 'scale': scale}


def fill(content):
    """Return the page, a str of HTML, with `content`, a dict, inserted as JSON."""
    with open(os.path.splitext(os.path.abspath(__file__))[0] + '.html', encoding='utf-8') as file:
        template = file.read()
    # In a script element, only < is special to a browser, as in </script> or <!--.
    return template.replace('CONTENT', json.dumps(content).replace('<', '\\u003c'))


def main(arguments):
    """Name units for the features that they follow in a text, and write the page."""
    settings = read_settings(globals(), arguments)
    with trained.opened(settings) as (session, sampler, ix2vocab, run, path):
        weights = {
            name: packed(array, settings.full_precision)
            for name, array in weights_of(session, sampler).items()
        }
        size = sum(len(one['numbers']) for one in weights.values())
        if size > MOST:
            raise UserError(
                f'a page with this model would take {size / 1e6:,.0f} MB, but browsers handle at '
                f'most {MOST / 1e6:.0f} MB well. Use a smaller model'
            )
        ids, text_name = read_ids(settings, run, ix2vocab)
        activations = read(session, sampler, ids)
    with trained.untrained(run, len(ix2vocab), settings.device) as (session, sampler):
        before = read(session, sampler, ids)
    text = decode(ids, ix2vocab)
    named = named_units(features_of(text), activations, before)
    content = {
        'model': path,
        'name': text_name,
        'text': text,
        'prompt': run.prime_texts[0],
        'vocabulary': ix2vocab,
        'never': [0, *run.unseen],  # ids that are never drawn
        'folds': reading.FOLDS if run.clean_text else None,
        'layers': run.num_layers,
        'units': run.rnn_size,
        'residual': run.residual,
        'forgetBias': FORGET_BIAS,
        'fullPrecision': settings.full_precision,
        'weights': weights,
        'named': named,
    }
    files.make_folder(settings.temp_dir, 'temp_dir')
    target = os.path.join(settings.temp_dir, 'page.html')
    files.write(target, fill(content).encode())
    print(f'Model: {path}')
    print(f'Text: {len(ids):,} characters of {text_name}')
    for what, layer, unit, r in named:
        print(f'Layer {layer + 1}, unit {unit + 1}: {what} (r = {r:.2f})')
    print(f'The page is {target}')


if __name__ == '__main__':
    sys.exit(running.run(main, sys.argv[1:]))
