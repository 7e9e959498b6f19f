"""Recognises the failures of TFLite's benchmark tool by what it or the phone says."""

from __future__ import annotations

import re

from android_bench.logs.lines import Line, LogLines

# Whoever says one of these gives no figure, even where a result was printed: the tool
# reports the times of failing runs, too, and tells the failure afterwards.
_DECISIVE = tuple(
    re.compile(pattern)
    for pattern in (
        r"Failed to apply (?!the default)\S+ delegate\.?",
        r"Failed to invoke!?\.?",
        r"Failed to allocate tensors!?\.?",
        r"Failed to (?:load|mmap) model.*",
        r"Failed to (?:initialize|construct|create) (?:the )?interpreter.*",
        r"Failed to (?:compile model|create litert environment)\b.*",
        r"Failed to create (?:input|output) buffer.*",
        r"Failed to (?:load graph|parse the model|resize input).*",
        r"Failed to read the input_layer_value_file.*",
        r"Run failed(?:: .*)?",
        r"Node number \d+ \(.*\) failed to invoke\.?",
        r"Input tensor \d+ lacks data\.?",
        r"Invoke called on model that is not .*",
        r"Non-persistent memory is not available\.?",
        r"Client requested cancel during Invoke\(\)\.?",
        r"Disallowed CPU fallback detected\.?",
        r"Error while running a single-option run.*",
        r"Please specify the name of your TF Lite input file.*",
        r"The size of .* is \d+ bytes\. It should be \d+ bytes\.?",
        r"usage: \S*benchmark\S* .*",
        r"#> Signature key: .*",
        r"(?:.*: )?CANNOT LINK EXECUTABLE.*",
        r".*: not executable: .*ELF file.*",
        r".*: (?:cannot execute|can't execute)\b.*",
        r"\S*sh: .*(?:not found|Permission denied|No such file or directory)\.?",
        r"\S*benchmark\S*: (?:.*not found|Permission denied|No such file or directory"
        r"|.*Exec format error)",
        r"Fatal signal \d+ .*",
        r"terminate called .*|terminating (?:due to|with) uncaught exception.*",
        r"(?:\S+: (?:line \d+: )?)?(?:\[\d+\] *[-+]? *|\d+ +)?"
        r"(?:Aborted|Killed|Segmentation fault|Bus error|Illegal instruction"
        r"|Trace/breakpoint trap|Terminated|Floating point exception)"
        r"(?: \(core dumped\))?(?: +\S*benchmark.*)?",
        r"Benchmarking failed\.?",
    )
)
# The last says least: it is the reason only where nothing else was said.
_PLAINEST = _DECISIVE[-1]

# What went before and explains it, in tools that mark errors and in those that do not.
_EXPLAINING = tuple(
    re.compile(pattern)
    for pattern in (
        r"NN API returned error .*",
        r"Op code \d+ is currently not delegated to NNAPI",
        r"Attempting to use a delegate that only supports static-sized tensors.*",
        r"Could not open '.*'\.?",
        r"Encountered unresolved custom op.*",
        r"Didn't find op for builtin opcode.*",
        r"Select TensorFlow op\(s\).*",
        r"The model is not a valid Flatbuffer.*",
    )
)
# A delegate that cannot be prepared is taken off again, and the run may go on without
# it. Where the runtime says nothing of that, the model itself cannot be prepared, and
# old tools time its failing runs.
_UNPREPARED = re.compile(r"Node number \d+ \(.*\) failed to prepare\.?")
_RESTORED = re.compile(
    r"Restored original execution plan after delegate application failure\.?"
)
# Printed as errors, although they explain none.
_HARMLESS = re.compile(
    rf"{_UNPREPARED.pattern}|{_RESTORED.pattern}"
    r"|Following operations are not supported by .* delegate:?.*"
    r"|\S+: Operation is not supported\.?.*|\d+ operations will run on .*"
    r"|Failed to apply the default .*"
    r"|Access denied finding property .*"
)


def parse_failure(log: LogLines) -> str | None:
    """Why the tool gave no result, one line; None where it tells of no failure."""
    lines = [*log.lines, log.rest]
    texts = [line.text.strip() for line in lines]
    decisive = [line.text.strip() for line in lines if _is_decisive(line)]
    unprepared = [text for text in texts if _UNPREPARED.fullmatch(text)]
    if len(unprepared) > sum(_RESTORED.fullmatch(text) is not None for text in texts):
        decisive.append(unprepared[0])
    if not decisive:
        return None
    telling = [text for text in decisive if not _PLAINEST.fullmatch(text)]
    reason = (telling or decisive)[0].rstrip(".! ")
    for line in lines:
        text = line.text.strip()
        if text in decisive:
            continue
        explains = any(pattern.fullmatch(text) for pattern in _EXPLAINING)
        if explains or (_is_error(line) and not _HARMLESS.fullmatch(text)):
            return f"{reason}: {text.rstrip('. ')}"
    return reason


def _is_error(line: Line) -> bool:
    return line.severity in ("ERROR", "FATAL") and bool(line.text.strip())


def _is_decisive(line: Line) -> bool:
    text = line.text.strip()
    fatal = line.severity == "FATAL" and bool(text)
    return fatal or any(p.fullmatch(text) for p in _DECISIVE)
