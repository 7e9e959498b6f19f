"""The commands of ``mess`` with their options: one table, standard library only.

Each row names a public function, ``mess_tf.commands.<name>:<name>``, whose keyword
arguments are the options here, with the same names and defaults (a test compares them):

    quickstart(run=Path("runs/quickstart"), recipe="quickstart")
    train(run, recipe=None, data=None, weights=None, changes=())
    compile(run, precision=None)
    evaluate(run, precision=None, source="pieces")
    devices()
    profile(target, device=(), precision=None, options=MeasureOptions(preset=None,
            threads=None, fresh=False, delegate="cpu", affinity="auto", extra=(),
            cooldown_s=None, benchmark_model=None), store=None, csv=None, share=None)
    search(run, device=(), precision="int8", threads=None,
           setting="input-dependent", max_drop_pp=None, min_miou=None,
           max_latency_ms=None, max_p90_ms=None, max_size_mb=None, robust=None,
           confidence=None, max_image_drop_pp=10.0, max_early_exits=None,
           time_limit_s=120.0, finalists=1, engine="local", scheduler=None,
           predicted=False)
    quantise(run, choice=(), device=None, precision="int8", epochs=None)
    export(run, choice=(), device=None, precision="int8", form="linked", input=None,
           output=None, answer="logits", resolution="grid", threshold_input=False,
           exit_signatures=False)
    check(run, name=(), device=None, threads=None)
    run(model, images, output=Path("overlays"), threads=1)
    report(run, output=None, others=())
    info()

None means: what the run's recipe says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Option(NamedTuple):
    """One option or argument of a command.

    Attributes:
        name: of the function's parameter; ``max_drop_pp`` is ``--max-drop-pp``.
        help: what it does, for a newcomer.
        kind: turns the text into a value; bool makes a switch.
        default: of the function's parameter.
        positional: an argument without dashes.
        required: a positional argument that must be given.
        many: may be given several times.
        choices: accepted values.
        spelling: the flag, where it is not made of the name.
        metavar: stands for the value in the help.
        in_record: a field of the command's record.
    """

    name: str
    help: str
    kind: Callable[[str], Any] = str
    default: Any = None
    positional: bool = False
    required: bool = False
    many: bool = False
    choices: tuple[str, ...] = ()
    spelling: str = ""
    metavar: str = ""
    in_record: bool = False

    @property
    def flag(self) -> str:
        return self.spelling or "--" + self.name.replace("_", "-")


class Command(NamedTuple):
    """One command.

    Attributes:
        target: the function behind it.
        help: in one line, for the list of commands.
        description: for its own help.
        options: of the function.
        kept: said after Ctrl-C: what is kept, and how to go on; ``{line}`` is the
            command as it was typed.
        record: ``parameter=module:class`` of the dataclass that gathers some options.
    """

    target: str
    help: str
    description: str
    options: tuple[Option, ...] = ()
    kept: str = "nothing was written; {line} begins anew."
    record: str = ""


RUN = Option("run", "the run folder", Path, positional=True, required=True)
DEVICE = Option("device", "device to use, e.g. host (default: the recipe's)")
THREADS = Option("threads", "CPU threads (default: the recipe's)", int, metavar="N")
# Those of mess_tf.records (a test compares); int8-qat comes from `mess quantise`.
CONVERTED = ("float32", "float16", "dynamic", "int8")
PRECISIONS = (*CONVERTED, "int8-qat")
BORDER_TYPES = ("float32", "int8", "uint8")
PRECISION = Option(
    "precision", "precision of the pieces", default="int8", choices=PRECISIONS
)
ANY_PRECISION = Option(
    "precision", "only this precision (default: the recipe's)", choices=PRECISIONS
)


COMMANDS: dict[str, Command] = {
    "quickstart": Command(
        "mess_tf.commands.quickstart:quickstart",
        "the whole way on drawn images, in a few minutes",
        "Draws a data set, trains a small multi-exit network on it, measures it on"
        " this computer, searches, exports an int8 file that stops early, checks it and"
        " writes report.html.",
        (
            RUN._replace(required=False, default=Path("runs/quickstart")),
            Option(
                "recipe",
                "recipe to follow, by path or built-in name",
                default="quickstart",
                metavar="RECIPE",
            ),
        ),
        kept="every finished step is kept, of training every epoch; {line} goes on.",
    ),
    "train": Command(
        "mess_tf.commands.train:train",
        "train a network with all its candidate exits",
        "Trains the supernet of a recipe in two stages. The same command goes on after"
        " an interruption.",
        (
            RUN,
            Option(
                "recipe",
                "recipe, by path or built-in name (own: your own images); needed for"
                " a new run",
                metavar="RECIPE",
            ),
            Option("data", "folder of the data set, instead of the recipe's", Path),
            Option(
                "weights",
                "imagenet, random or a file, instead of the recipe's",
                metavar="WEIGHTS",
            ),
            Option(
                "changes",
                "change a setting of the recipe, e.g. training.seed=1; may be repeated",
                default=(),
                many=True,
                spelling="--set",
                metavar="KEY=VALUE",
            ),
        ),
        kept="every finished epoch is kept; {line} goes on after the last one.",
    ),
    "compile": Command(
        "mess_tf.commands.compile:compile",
        "convert the network and cut it into pieces",
        "Converts the trained network to LiteRT and cuts it into segments and heads.",
        (RUN, ANY_PRECISION._replace(choices=CONVERTED)),
        kept="precisions that were finished are kept; {line} makes them anew.",
    ),
    "evaluate": Command(
        "mess_tf.commands.evaluate:evaluate",
        "find out what every exit does on every image",
        "Runs every exit on the validation images and stores accuracy and confidence.",
        (
            RUN,
            ANY_PRECISION,
            Option(
                "source",
                "what runs: the compiled pieces or the Keras model",
                default="pieces",
                choices=("pieces", "keras"),
                spelling="--from",
            ),
        ),
        kept="the images done so far are kept, but for the last few; {line} goes on.",
    ),
    "devices": Command(
        "mess_tf.commands.devices:devices",
        "list the devices that can be measured",
        "Lists this computer and every phone within reach: what it is, how it is, and"
        " what to do where it cannot be used. Phones are looked for at a running adb"
        " server, at the USB ports, and at the addresses in the environment variable"
        " MESS_PHONES (HOST:PORT, separated by commas).",
    ),
    "profile": Command(
        "mess_tf.commands.profile:profile",
        "measure latencies on one or more devices",
        "Measures every piece of a run, or any .tflite file. Each figure is stored at"
        " once: after Ctrl-C, a pulled cable or a crash the same command goes on where"
        " it stopped. The exit code is 3 where a device was lost or a model could not"
        " be measured.",
        (
            Option(
                "target",
                "run folder or .tflite file",
                Path,
                positional=True,
                required=True,
            ),
            Option(
                "device",
                "name of a device as `mess devices` lists it; may be repeated: several"
                " are measured at the same time; 'all' is every phone within reach"
                " (default: the recipe's)",
                default=(),
                many=True,
                metavar="DEVICE",
            ),
            ANY_PRECISION,
            Option(
                "preset",
                "how long to measure (default: the recipe's)",
                choices=("quick", "report"),
                in_record=True,
            ),
            THREADS._replace(in_record=True),
            Option(
                "fresh", "measure again what is stored", bool, False, in_record=True
            ),
            Option(
                "delegate",
                "what runs the model; others than cpu on phones only. A model that"
                " falls back to the CPU is a failure, not a figure",
                default="cpu",
                choices=("cpu", "gpu", "nnapi", "xnnpack-off"),
                in_record=True,
            ),
            Option(
                "affinity",
                "a phone's cores to run on: auto (the fastest that suffice), none (the"
                " phone chooses), or a mask like f0 (cores 4 to 7)",
                default="auto",
                metavar="CORES",
                in_record=True,
            ),
            Option(
                "extra",
                "further flag of the phone's benchmark tool, e.g."
                " --extra=--allow_fp16=true; may be repeated",
                default=(),
                many=True,
                metavar="FLAG",
                in_record=True,
            ),
            Option(
                "cooldown_s",
                "longest wait for a hot device to cool down before a round (default:"
                " the preset's)",
                float,
                metavar="SECONDS",
                in_record=True,
            ),
            Option(
                "benchmark_model",
                "Google's benchmark_model for Android to measure phones with (default:"
                " MESS_BENCHMARK_MODEL, else downloaded once)",
                Path,
                metavar="FILE",
                in_record=True,
            ),
            Option(
                "store",
                "where the measurements are kept: an SQLite file, or the URL of a"
                " database that a team shares, e.g. postgresql://user@host/name"
                " (default: the run's profiles.sqlite)",
                metavar="STORE",
            ),
            Option(
                "csv",
                "also write the figures as a table to FILE, and every round with its"
                " raw samples to <stem>.rounds.csv beside it",
                Path,
                metavar="FILE",
            ),
            Option(
                "share",
                "part of a run's pieces to measure, e.g. 0.2: those that tell most"
                " about the others, and what `mess search` has chosen; `mess search"
                " --predicted` predicts the rest (default: all)",
                float,
                metavar="SHARE",
            ),
        ),
        record="options=android_bench.options:MeasureOptions",
        kept="every measurement is kept; {line} goes on (leave --fresh out).",
    ),
    "search": Command(
        "mess_tf.commands.search:search",
        "find the best exits for a device and a requirement",
        "Finds the best exits, heads and thresholds. Without a requirement it answers"
        " the recipe's accuracy drops.",
        (
            RUN,
            Option(
                "device",
                "device to search for, e.g. host; may be repeated: each gets its own"
                " configurations (default: the recipe's)",
                default=(),
                many=True,
            ),
            PRECISION,
            THREADS,
            Option(
                "setting",
                "how the exit is chosen",
                default="input-dependent",
                choices=("input-dependent", "budgeted"),
            ),
            Option("max_drop_pp", "largest loss of mIoU, absolute points", float),
            Option("min_miou", "least mIoU, 0..1", float),
            Option("max_latency_ms", "largest mean latency", float),
            Option("max_p90_ms", "largest latency of 90 % of the images", float),
            Option("max_size_mb", "most that the kept pieces may take, MB", float),
            Option(
                "robust",
                "measure by which limits are to hold on other scenes too",
                choices=("worst-group", "left-out", "upper-bound"),
            ),
            Option(
                "confidence",
                "e.g. 0.95: at most the rest of new images loses more than"
                " --max-image-drop-pp, with this probability",
                float,
                metavar="SHARE",
            ),
            Option(
                "max_image_drop_pp",
                "largest loss of an image's own mIoU, for --confidence",
                float,
                10.0,
                metavar="PP",
            ),
            Option(
                "max_early_exits",
                "early exits at most (default: the recipe's)",
                int,
                metavar="N",
            ),
            Option("time_limit_s", "seconds per requirement", float, 120.0),
            Option(
                "finalists",
                "so many of the best are linked and measured on the device, and the one"
                " that measures best is chosen; 1 chooses by the promise alone",
                int,
                1,
                metavar="N",
            ),
            Option(
                "engine",
                "where several devices and requirements are searched: one after the"
                " other here, or spread over a Dask cluster",
                default="local",
                choices=("local", "dask"),
            ),
            Option(
                "scheduler",
                "of a Dask cluster, e.g. tcp://10.0.0.5:8786 (default: two workers"
                " here)",
                metavar="ADDRESS",
            ),
            Option(
                "predicted",
                "predict the latencies of heads that are not measured (after `mess"
                " profile --share`)",
                bool,
                False,
            ),
        ),
        kept="requirements that were answered are kept; {line} asks all of them again.",
    ),
    "quantise": Command(
        "mess_tf.commands.quantise:quantise",
        "train chosen networks on for int8",
        "Fine-tunes chosen configurations with rounding in the loop (quantisation-aware"
        " training), writes their int8 pieces as precision int8-qat and fits the"
        " thresholds anew. Goes on after an interruption.",
        (
            RUN,
            Option(
                "choice",
                "name of a search result; may be repeated (default: all)",
                default=(),
                many=True,
                metavar="NAME",
            ),
            DEVICE,
            Option(
                "precision",
                "precision of the pieces that the search was made for",
                default="int8",
                choices=("float32", "int8"),
            ),
            Option(
                "epochs",
                "epochs of fine-tuning (default: the recipe's)",
                int,
                metavar="N",
            ),
        ),
        kept="every finished epoch is kept; {line} goes on after the last one.",
    ),
    "export": Command(
        "mess_tf.commands.export:export",
        "write chosen networks as .tflite files",
        "Writes each chosen configuration as one .tflite file that stops early by"
        " itself (or in another form), with a card that tells what it promises.",
        (
            RUN,
            Option(
                "choice",
                "name of a search result; may be repeated (default: all)",
                default=(),
                many=True,
                metavar="NAME",
            ),
            DEVICE,
            PRECISION,
            Option(
                "form",
                "linked: one file that decides by itself; stages: a file per exit and a"
                " plan, for delegates without IF; single: the best single exit",
                default="linked",
                choices=("linked", "stages", "single"),
            ),
            Option(
                "input",
                "type of the image: float32 normalised, uint8 RGB pixels of a camera,"
                " int8 (default: as the pieces)",
                choices=BORDER_TYPES,
            ),
            Option(
                "output",
                "type of the logits (default: as the pieces)",
                choices=BORDER_TYPES,
            ),
            Option(
                "answer",
                "what comes out: logits, class ids (uint8) or both",
                default="logits",
                choices=("logits", "classes", "both"),
            ),
            Option(
                "resolution",
                "of the answer: the network's grid of logits, or the image's",
                default="grid",
                choices=("grid", "image"),
            ),
            Option(
                "threshold_input",
                "make thresholds an input: a speed knob at run time",
                bool,
                False,
            ),
            Option(
                "exit_signatures",
                "add signatures exit_<k> that run up to one exit, without decisions",
                bool,
                False,
            ),
        ),
        kept="files that were finished are kept; {line} writes all of them again.",
    ),
    "check": Command(
        "mess_tf.commands.check:check",
        "run exported files on the device: promised against measured",
        "Runs exported files on the device over real images and compares latency, exit"
        " rates and mIoU with what was promised.",
        (
            RUN,
            Option(
                "name",
                "name of an export; may be repeated (default: all)",
                default=(),
                many=True,
                metavar="NAME",
            ),
            DEVICE,
            THREADS,
        ),
        kept="checks that were finished are kept; {line} makes all of them again.",
    ),
    "run": Command(
        "mess_tf.commands.run:run",
        "segment images with an exported file",
        "Segments images and writes overlays that name the exit taken.",
        (
            Option(
                "model",
                "exported .tflite file, or the folder of an export in stages",
                Path,
                positional=True,
                required=True,
            ),
            Option(
                "images",
                "image files",
                Path,
                positional=True,
                required=True,
                many=True,
            ),
            Option("output", "folder for the overlays", Path, Path("overlays")),
            Option("threads", "CPU threads", int, 1, metavar="N"),
        ),
        kept="overlays that were finished are kept; {line} begins anew.",
    ),
    "report": Command(
        "mess_tf.commands.report:report",
        "write report.html",
        "Writes one page with everything that a run, or several, have found: the Pareto"
        " front, where the time goes, IoU per class, sample images; and every figure as"
        " a file.",
        (
            RUN,
            Option("output", "file to write (default: report.html in the run)", Path),
            Option(
                "others",
                "further runs, to compare on the same page",
                Path,
                (),
                positional=True,
                many=True,
            ),
        ),
    ),
    "info": Command(
        "mess_tf.commands.info:info",
        "versions, devices and backends, for a bug report",
        "Prints what a bug report has to say: the versions of everything that works"
        " here, this computer, what Keras trains on, and the devices within reach.",
    ),
}
