"""Starts programs as forks of one process that has imported what they need, so that a start costs no
seconds. Each is a process group of its own, as of a shell's command, with its output in a file.

Run as a program: a line {"folder", "log", "commands": [[module, argument, ...], ...]} starts one, whose
modules' `main` are called in turn until one fails, and is answered with its pid; {"pid"} waits for its end
and is answered with the status, negative for a signal, as of `subprocess`. No process has a privilege: the
modes of folders hold for root, too.
"""

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

IMPORTED = (
    "attnseg.segmentation.train", "attnseg.segmentation.predict", "extract_attention", "generate_images",
    "invert_image", "refine_masks", "refine_synthetic", "evaluate_masks", "evaluate_segmentor",
    "train_segmentor", "train_custom_diffusion", "train_dreambooth_lora", "download_dataset",
    "diffusers.loaders.lora_pipeline", "transformers.models.clip.modeling_clip",
)  # fmt: skip


class Forks:
    """Starts processes, and waits for them."""

    def __init__(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **words: object) -> int:
        print(json.dumps(words), file=self.server.stdin, flush=True)
        return int(self.server.stdout.readline())

    def start(self, commands: list[list[object]], folder: Path, log: str = "log") -> int:
        folder.mkdir(parents=True, exist_ok=True)
        words = [list(map(str, command)) for command in commands]
        return self.ask(commands=words, folder=str(folder), log=str(folder / log))

    def wait(self, pid: int) -> int:
        return self.ask(pid=pid)

    def close(self) -> None:
        self.server.stdin.close()
        self.server.wait()


def is_over(pid: int) -> bool:
    """Whether a process has ended; it stays a zombie until it is waited for."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "Z"


def give_up_privileges() -> None:
    """Root's capabilities (Linux); other users have none."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")


def program(commands: list[list[str]]) -> int:
    for name, *arguments in commands:
        sys.argv = [name, *arguments]
        if status := importlib.import_module(name).main(arguments):
            return status
    return 0


def serve() -> None:
    from attnseg.errors import run

    for name in IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        job = json.loads(line)
        if "pid" in job:
            print(os.waitstatus_to_exitcode(os.waitpid(job["pid"], 0)[1]), flush=True)
            continue
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        os.setsid()
        give_up_privileges()
        os.chdir(job["folder"])
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        status = 70  # of an exception, whose traceback is printed
        try:
            status = run(lambda job=job: program(job["commands"]))
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
    serve()
