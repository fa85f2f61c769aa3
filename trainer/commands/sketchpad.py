"""Serves a page to draw on, where a trained run's guesses change with every stroke.

    quickdraw sketchpad --run_dir=runs/1

Only programs of this machine can reach it, unless --host says otherwise. Ctrl-C ends it.
"""

from absl import flags

from quickdraw_tfrecords.base import cli
from trainer.commands import run_flags


def define_flags() -> None:
    """Defines the flags of this command."""
    run_flags.define()
    flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 is all.")
    flags.DEFINE_integer("port", 8765, "Port to listen on; 0 takes a free one.", 0, 65535)


def main() -> None:
    """Serves as the flags say, until it is interrupted."""
    from trainer.serving.sketchpad import server as servers

    args = flags.FLAGS
    listener = servers.listen(args.host, args.port)  # before TensorFlow is imported: it may fail
    from trainer.serving.classifier import Classifier
    from trainer.serving.sketchpad import app

    run = run_flags.open_run()
    application = app.create_app(Classifier.of(run), run.directory, args.host)
    server = servers.make_local_server(application, listener)
    host = f"[{server.host}]" if ":" in server.host else server.host
    print(f"draw at http://{host}:{server.port}/   (Ctrl-C to end)", flush=True)
    server.serve_forever()  # ends quietly when it is interrupted


if __name__ == "__main__":
    define_flags()
    cli.run(main)
