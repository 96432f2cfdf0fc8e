"""What Python finds for backstage/ where a tool is started as a file: how to start it instead."""

import os
import sys

name = os.path.basename(sys.argv[0])
print(
    f'{name}: start it with python -m tools.{name[: -len(".py")]}, in the folder of the script.',
    file=sys.stderr,
)
sys.exit(2)
