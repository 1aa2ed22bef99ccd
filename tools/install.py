"""Makes `.venv` and puts what requirements.lock names into it, then the project itself (editable).

Run by `make` with a Python >= 3.11; needs nothing but the standard library.

uv does the work in a tenth of pip's time. It does not read pip's configuration, so whatever this machine has
set for pip (indexes, find-links, certificate, proxy) is handed on; index addresses go through the environment
and are never printed, because they may carry a password. Without uv, or where uv fails, pip does the work.
"""

import ast
import os
import shlex
import subprocess
import sys
from pathlib import Path

UV = "uv==0.13.9"
LOCK = Path("requirements.lock")
VENV = Path(".venv")
PYTHON = VENV / "bin" / "python"
IMPORTS = (
    "lightning", "hydra", "joblib", "pydantic", "pandas", "pyarrow.parquet", "scipy.stats", "rich.progress",
    "torch.utils.flop_counter", "matplotlib.pyplot", "datasets", "wandb", "pytest", "hypothesis",
)  # fmt: skip
# pip's settings that uv knows under another name; values keep pip's form, which uv takes as it is.
UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}


def fail(message):
    print("install: " + message, file=sys.stderr)
    raise SystemExit(2)


def shell(*command, env=None):
    """Print the command and run it; True if it ended well."""
    words = [str(word) for word in command]
    print("+ " + " ".join(shlex.quote(word) for word in words), flush=True)
    return subprocess.run(words, env=env, check=False).returncode == 0


def make_venv():
    probe = "import pip, sys; sys.exit(sys.version_info < (3, 11))"
    usable = PYTHON.exists() and subprocess.run([str(PYTHON), "-c", probe], check=False).returncode == 0
    if not usable and not shell(sys.executable, "-m", "venv", "--clear", VENV):
        fail(f"{sys.executable} cannot make a virtual environment (on Debian: apt-get install python3-venv)")


def pip_settings():
    """pip's settings by their bare name: the configuration files' first, the environment's over them."""
    listed = subprocess.run(
        [str(PYTHON), "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    rows = [line.partition("=") for line in listed.splitlines()]
    rank = {"global": 0, "install": 1, ":env:": 2}
    rows = [(key.rpartition("."), value) for key, _, value in rows]
    rows = sorted((row for row in rows if row[0][0] in rank), key=lambda row: rank[row[0][0]])
    return {name: " ".join(ast.literal_eval(value).split()) for (_, _, name), value in rows}


def with_uv(settings):
    """Install the lock with uv; False if there is no uv or it fails."""
    if not shell(PYTHON, "-m", "pip", "install", "-qq", "--disable-pip-version-check", UV):
        return False
    env = dict(os.environ)
    for name, value in settings.items():
        if name in UV_NAMES and value:
            env.setdefault(UV_NAMES[name], value)
    # One release may lie on several indexes; pip looks at all of them, and so must uv. The hashes decide.
    env.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    links = [word for link in settings.get("find-links", "").split() for word in ("--find-links", link)]
    uv = VENV / "bin" / "uv"
    return shell(uv, "pip", "install", "--python", PYTHON, *links, "-r", LOCK, env=env)


def with_pip():
    """Install the lock with pip, which refuses a list where some lines have hashes and one has none."""
    bare = VENV / "requirements-without-hashes.txt"
    lines = (line.partition("\\")[0].rstrip() for line in LOCK.read_text().splitlines())
    bare.write_text("\n".join(line for line in lines if not line.lstrip().startswith("--hash")) + "\n")
    return shell(PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "-r", bare)


def warm_up():
    """Import what every run imports: a broken package shows here, and the first run finds bytecode.

    Compiling on import costs half of what compiling all 13,000 files does. Where PYTHONDONTWRITEBYTECODE is
    set, imports would otherwise stay three times slower for good.
    """
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return shell(PYTHON, "-c", "import " + ", ".join(IMPORTS), env=env)


def main():
    os.chdir(Path(__file__).resolve().parent.parent)
    make_venv()
    if not with_uv(pip_settings()):
        print("install: uv did not do; pip will, in some minutes", file=sys.stderr)
        if not with_pip():
            fail("pip could not install requirements.lock; its message is above, 'make install' tries again")
    # The build backend is in the lock, so nothing is fetched here.
    own = "install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable ."
    if not shell(PYTHON, "-m", "pip", *own.split()):
        fail("the project itself could not be installed; the message is above")
    if not warm_up():
        fail("what was installed cannot be imported; the message is above")


if __name__ == "__main__":
    main()
