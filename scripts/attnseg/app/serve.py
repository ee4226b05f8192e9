"""A page to look at what words find: drop a photo, name what is in it, see the masks over it.

    attnseg serve --model CompVis/stable-diffusion-v1-4 --revision 133a221b8aa7292a167afc5127cb63fb5005638b
    attnseg serve --model assets/mini_sd    # in a clone: the miniature, with examples it knows

Open the address that it prints. Sliders answer from the stored attention, without another pass of the
network; a second tab generates pictures. The page asks nothing of any other host, and is this program's
alone (Python's http.server and a page without a framework): nothing more is to be installed.

Photos stay in memory, each browser tab's for itself, and are forgotten after an hour without a
visit, or when the program ends. Only this machine reaches the page, unless --host says otherwise.
"""

import argparse
import ipaddress
import sys

from attnseg.app import flags
from attnseg.app.options import count
from attnseg.errors import Ended, UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add(parser, "--model --revision --model-file --device")
    flags.add(parser, "--cross-blocks --self-block")
    parser.add_argument(
        "--noises", type=count, default=4, help="maps averaged, unless the page says otherwise"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; others than this machine's warn"
    )
    parser.add_argument("--port", type=int, default=7860, help="0: any that is free")
    parser.add_argument(
        "--memory",
        type=count,
        default=2048,
        metavar="MIB",
        help="of all photos and their attention",
    )


def main(args: argparse.Namespace) -> int:
    if not 0 <= args.port <= 65535:
        raise UserError(f"--port {args.port}: must be from 0 to 65535")

    from attnseg.app.page import server  # imports torch: after all that can be said at once
    from attnseg.app.page.network import Network

    with server.listening(args.host, args.port) as page:
        page.network = Network(args)
        page.store.room = args.memory * 2**20
        name = f"[{args.host}]" if ":" in args.host else args.host
        if not own(args.host):
            print(
                f"warning: whoever reaches {args.host} can use this page and this machine's time; "
                "there is no password, and no encryption",
                file=sys.stderr,
            )
        print(f"http://{name}:{page.server_port}/    (Ctrl-C ends it)", flush=True)
        try:
            page.serve_forever()
        except (KeyboardInterrupt, Ended):
            print()
    return 0


def own(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
