"""Train nanoGPT, from a checkout of it, on the text that the script has learned; NumPy and PyTorch.

    python benchmarks/nanogpt.py train CHECKOUT --text_file=... --held_out=... --temp_dir=...
        --max_iterations=... [--save_every=... --seed=...] [--n_layer=4 ...]
    python benchmarks/nanogpt.py last CHECKOUT --last=... ...    measure another text, and print it
    python benchmarks/nanogpt.py steps CHECKOUT ...    take steps of training, as turns.py asks

Its train.py runs as it is, with its configuration for Shakespeare. What is replaced: the text, the
seed, and a save, which also measures the held-out loss with a sliding window and writes a
history.csv as the script does. Settings that are not of this program are handed to nanoGPT.
"""

import argparse
import contextlib
import json
import os
import pathlib
import pickle
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading

import numpy as np
import torch
from turns import serve

COMMIT = '3adf61e154c3fe3fca428ad6bc3818b27a3b8291'
# Strides in a window. With 16, a character is predicted from at least 15/16 of what a window holds,
# but in the first; that takes long, so the losses on the way are measured with fewer.
STRIDES, FEWER = 16, 4


def read_arguments(words):
    """Return the settings of this program, and the words for nanoGPT."""
    parser = argparse.ArgumentParser()
    for name in 'text_file', 'temp_dir', 'last':
        parser.add_argument(f'--{name}', type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument('--held_out', type=float)
    for name, value in {'max_iterations': 1000, 'save_every': 1000, 'seed': 1}.items():
        parser.add_argument(f'--{name}', type=int, default=value)
    parser.add_argument('--restart', action='store_true')  # as it always does
    for name in 'eval_every', 'show_plot':  # what has no meaning here
        parser.add_argument(f'--{name}')
    return parser.parse_known_args(words)


def check(checkout):
    """End the program unless nanoGPT stands there as it was at COMMIT."""
    git = ['git', '-C', checkout]
    commit, changed = (
        subprocess.run([*git, *command], check=False, stdout=subprocess.PIPE, text=True).stdout
        for command in (['rev-parse', 'HEAD'], ['status', '--porcelain', '--untracked-files=no'])
    )
    if commit.strip() != COMMIT or changed:
        found = 'changed files' if changed else commit.strip() or 'no repository'
        sys.exit(f'{checkout} must be an unchanged checkout of nanoGPT at {COMMIT}, got {found}')


def sliding_loss(checkpoint, ids, strides):
    """Return the mean loss of ids, integers [characters], but of the first: nats.

    Windows as long as the model takes begin so many `strides` to a window apart. Each counts the
    characters that no window before it had, and so predicts them from as much as it can see.

    Args:
      checkpoint: what train.py saves.
    """
    from model import GPT, GPTConfig  # nanoGPT's

    model = GPT(GPTConfig(**checkpoint['model_args']))
    weights = checkpoint['model']  # a compiled model puts a word before each name
    model.load_state_dict({name.replace('_orig_mod.', ''): w for name, w in weights.items()})
    size, losses = model.config.block_size, []
    stride = size // strides
    begins = [*range(0, len(ids) - 1 - size, stride), len(ids) - 1 - size]
    model.eval()
    with torch.no_grad():
        for first in range(0, len(begins), 64):
            some = begins[first : first + 64]
            x, y = (
                torch.from_numpy(np.stack([ids[b + k : b + k + size] for b in some]).astype(int))
                for k in (0, 1)
            )
            logits, _ = model(x, y)
            loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), y, reduction='none')
            losses.extend(zip(some, loss.double().numpy()))
    total, done = 0.0, 0
    for begin, loss in losses:
        total += loss[done - begin :].sum()
        done = begin + size
    return total / (len(ids) - 1)


def write_texts(settings):
    """Write the text as nanoGPT's prepare.py does; return the held-out ids and the symbols' ids."""
    text = settings.text_file.read_text(encoding='utf-8')
    symbols = sorted(set(text))
    stoi = {symbol: ix for ix, symbol in enumerate(symbols)}
    ids = np.array([stoi[symbol] for symbol in text], np.uint16)
    split = int(len(ids) * (1 - settings.held_out))
    folder = pathlib.Path('data', 'shakespeare_char')
    folder.mkdir(parents=True, exist_ok=True)
    ids[:split].tofile(folder / 'train.bin')
    ids[split:].tofile(folder / 'val.bin')
    meta = {'vocab_size': len(symbols), 'itos': dict(enumerate(symbols)), 'stoi': stoi}
    (folder / 'meta.pkl').write_bytes(pickle.dumps(meta))
    return ids[split:], stoi


def run(checkout, settings, config):
    """Run nanoGPT's train.py in the working directory; leave history.csv and more.json."""
    held_out, _ = write_texts(settings)
    shutil.copy(f'{checkout}/configurator.py', '.')
    seed, save, rows = torch.manual_seed, torch.save, []

    def save_and_measure(checkpoint, path):
        loss = sliding_loss(checkpoint, held_out, FEWER)
        rows.append((checkpoint['iter_num'], loss, float(checkpoint['best_val_loss'])))
        if loss == min(loss for _, loss, _ in rows):
            save(checkpoint, path)

    torch.manual_seed = lambda _: seed(settings.seed)
    torch.save = save_and_measure
    rate = [float(word.split('=')[1]) for word in config if word.startswith('--learning_rate=')]
    end = settings.max_iterations // settings.save_every * settings.save_every
    sys.argv = ['train.py', f'{checkout}/config/train_shakespeare_char.py', '--device=cpu',
                '--out_dir=out', '--always_save_checkpoint=True', f'--max_iters={end}',
                f'--lr_decay_iters={end}', f'--min_lr={(*rate, 1e-3)[0] / 10}',
                f'--eval_interval={settings.save_every}', *config]  # fmt: skip
    with open('log.txt', 'w') as log, contextlib.redirect_stdout(log):
        runpy.run_path(f'{checkout}/train.py', run_name='__main__')
    training = re.findall(r'step (\d+): train loss ([\d.]+)', pathlib.Path('log.txt').read_text())
    training = {int(iteration): loss for iteration, loss in training}
    with open('history.csv', 'w') as file:
        print('iteration,loss,held_out_loss', file=file)
        for iteration, loss, _ in rows:
            print(f'{iteration},{training[iteration]},{loss}', file=file)
    best = torch.load('out/ckpt.pt', weights_only=False)
    found = {
        'own': [own for *_, own in rows],
        'training': float(training[rows[-1][0]]),
        'middle': sliding_loss(best, held_out, STRIDES),
    }
    pathlib.Path('more.json').write_text(json.dumps(found))


def measure_last(settings):
    """Print the loss of the file `last`, by the model that a run in the working directory left."""
    _, stoi = write_texts(settings)
    last = [stoi[symbol] for symbol in settings.last.read_text(encoding='utf-8')]
    print(sliding_loss(torch.load('out/ckpt.pt', weights_only=False), np.array(last), STRIDES))


def serve_steps(checkout, settings, config):
    """Take steps of train.py as turns.py asks for them, in a thread beside it."""
    ready, go = threading.Semaphore(0), threading.Semaphore(0)
    clip = torch.nn.utils.clip_grad_norm_

    def clip_and_wait(*arguments):  # what each step calls
        ready.release()
        go.acquire()
        return clip(*arguments)

    def steps():
        while True:
            ready.acquire()
            yield
            go.release()

    def serve_and_end():
        serve(steps())
        os._exit(0)  # train.py would go on for ever

    torch.nn.utils.clip_grad_norm_ = clip_and_wait
    settings.max_iterations = settings.save_every = 10**9
    threading.Thread(target=serve_and_end, daemon=True).start()
    run(checkout, settings, [*config, '--eval_iters=1'])


def main(what, checkout, *words):
    checkout = str(pathlib.Path(checkout).resolve())
    check(checkout)
    settings, config = read_arguments(words)
    sys.path.insert(0, checkout)
    if what == 'train':
        settings.temp_dir.mkdir(parents=True, exist_ok=True)
        with contextlib.chdir(settings.temp_dir):
            run(checkout, settings, config)
    elif what == 'last':
        with contextlib.chdir(settings.temp_dir):
            measure_last(settings)
    else:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            serve_steps(checkout, settings, config)


if __name__ == '__main__':
    main(*sys.argv[1:])
