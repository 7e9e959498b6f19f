"""Flags of TFLite's benchmark tool: names, defaults, and how each is echoed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Value = bool | int | float | str


@dataclass(frozen=True)
class Flag:
    """One flag; the type of its default is its type.

    Attributes:
        label: what it is called in the echo; "" where it is not echoed.
    """

    name: str
    default: Value
    label: str


# In the order of the echo.
FLAGS = (
    Flag("num_runs", 50, "Min num runs"),
    Flag("min_secs", 1.0, "Min runs duration (seconds)"),
    Flag("max_secs", 150.0, "Max runs duration (seconds)"),
    Flag("run_delay", -1.0, "Inter-run delay (seconds)"),
    Flag("run_frequency", -1.0, "Number of prorated runs per second"),
    Flag("num_threads", -1, "Num threads"),
    Flag("use_caching", False, "Use caching"),
    Flag("benchmark_name", "", "Benchmark name"),
    Flag("output_prefix", "", "Output prefix"),
    Flag("warmup_runs", 1, "Min warmup runs"),
    Flag("warmup_min_secs", 0.5, "Min warmup runs duration (seconds)"),
    Flag("dry_run", False, "Run w/o invoking kernels"),
    Flag("report_peak_memory_footprint", False, "Report the peak memory footprint"),
    Flag(
        "memory_footprint_check_interval_ms", 50, "Memory footprint check interval (ms)"
    ),
    Flag("graph", "", "Graph"),
    Flag("signature_to_run_for", "", "Signature to run"),
    Flag("list_signatures", False, "List signatures from the provided model"),
    Flag("input_layer", "", "Input layers"),
    Flag("input_layer_shape", "", "Input shapes"),
    Flag("input_layer_value_range", "", "Input value ranges"),
    Flag("input_layer_value_files", "", "Input value files"),
    Flag("allow_fp16", False, "Allow fp16"),
    Flag("require_full_delegation", False, "Require full delegation"),
    Flag("enable_op_profiling", False, "Enable op profiling"),
    Flag("op_profiling_output_mode", "stdout", "Op profiling output mode."),
    Flag("op_profiling_output_file", "", "Op profiling output file."),
    Flag("max_profiling_buffer_entries", 1024, "Max initial profiling buffer entries"),
    Flag(
        "allow_dynamic_profiling_buffer_increase",
        False,
        "Allow dynamic increase on profiling buffer entries",
    ),
    Flag("profiling_output_csv_file", "", "CSV File to export profiling data to"),
    Flag("export_model_runtime_info", False, "Enable Model Runtime Info Export"),
    Flag(
        "model_runtime_info_output_file",
        "",
        "Proto File to export model runtime info to",
    ),
    Flag("print_preinvoke_state", False, "Print pre-invoke interpreter state"),
    Flag("print_postinvoke_state", False, "Print post-invoke interpreter state"),
    Flag("release_dynamic_tensors", False, "Release dynamic tensor memory"),
    Flag(
        "optimize_memory_for_large_tensors",
        0,
        "Optimize memory usage for large tensors",
    ),
    Flag("disable_delegate_clustering", False, "Disable delegate clustering"),
    Flag("enable_builtin_cast_constant_cache", False, "Constant CAST output cache"),
    Flag("output_filepath", "", "File path to export outputs layer to"),
    Flag(
        "output_proto_filepath",
        "",
        "File path to export outputs layer as tf example to",
    ),
    Flag("tensor_name_display_length", 25, "Tensor name display length"),
    Flag("tensor_type_display_length", 15, "Tensor type display length"),
    Flag("alloc_type_display_length", 18, "Tensor allocation type display length"),
    Flag("help", False, "print out all supported flags"),
    Flag("max_delegated_partitions", 0, "Max number of delegated partitions"),
    Flag("min_nodes_per_partition", 0, "Min nodes per partition"),
    Flag(
        "first_delegate_node_index",
        0,
        "Index of the first node that could be delegated",
    ),
    Flag(
        "last_delegate_node_index",
        2**31 - 1,
        "Index of the last node that could be delegated",
    ),
    Flag("gpu_invoke_loop_times", 1, "Number of GPU delegate invoke loop iterations"),
    Flag("delegate_serialize_dir", "", "Directory for delegate serialization"),
    Flag(
        "delegate_serialize_token",
        "",
        "Model-specific token/key for delegate serialization.",
    ),
    Flag("external_delegate_path", "", "External delegate path"),
    Flag("external_delegate_options", "", "External delegate options"),
    Flag("use_gpu", False, "Use gpu"),
    Flag("gpu_precision_loss_allowed", True, "Allow lower precision in gpu"),
    Flag("gpu_experimental_enable_quant", True, "Enable running quant models in gpu"),
    Flag(
        "gpu_inference_for_sustained_speed",
        False,
        "Prefer maximizing the throughput in gpu",
    ),
    Flag("gpu_backend", "", "GPU backend"),
    Flag("use_hexagon", False, "Use Hexagon"),
    Flag("hexagon_lib_path", "/data/local/tmp", "Hexagon lib path"),
    Flag("hexagon_profiling", False, "Hexagon profiling"),
    Flag("use_nnapi", False, "Use NNAPI"),
    Flag("nnapi_execution_preference", "", "NNAPI execution preference"),
    Flag("nnapi_execution_priority", "", "Model execution priority in nnapi"),
    Flag("nnapi_accelerator_name", "", "NNAPI accelerator name"),
    Flag("disable_nnapi_cpu", True, "Disable NNAPI cpu"),
    Flag("nnapi_allow_fp16", False, "Allow fp16 in NNAPI"),
    Flag("nnapi_allow_dynamic_dimensions", False, "Allow dynamic dimensions in NNAPI"),
    Flag("nnapi_use_burst_mode", False, "Use burst mode in NNAPI"),
    Flag("use_xnnpack", False, "Use xnnpack"),
    Flag("xnnpack_force_fp16", False, "xnnpack_force_fp16"),
    Flag("xnnpack_weight_cache_file_path", "", "xnnpack_weight_cache_file_path"),
)
_WHOLE = r"\s*[+-]?\d+"
_DECIMAL = r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_BY_NAME = {flag.name: flag for flag in FLAGS}
# Echoed although they were not set; by tools that print prefixes only.
_ALWAYS = ("signature_to_run_for",)
# Not echoed unless set, even where all others are.
_NEVER_UNSET = ("list_signatures",)
# NNAPI's settings are echoed only where NNAPI is to be used.
_OF_NNAPI = tuple(f.name for f in FLAGS if "nnapi" in f.name and f.name != "use_nnapi")


class BadValue(Exception):
    """A flag's value that cannot be read."""


@dataclass(frozen=True)
class Options:
    """A command line as the tool understands it.

    Attributes:
        given: values of the flags that were set, by name.
        unknown: words that no flag took: the tool warns and goes on.
        verbose: echo the flags that were not set, too.
    """

    given: Mapping[str, Value]
    unknown: tuple[str, ...]
    verbose: bool

    @classmethod
    def parse(cls, words: Sequence[str]) -> Options:
        """Raises BadValue, as the tool prints its usage then."""
        given: dict[str, Value] = {}
        unknown, verbose = [], False
        for word in words:
            name, equals, text = word.removeprefix("--").partition("=")
            known = word.startswith("--") and equals
            if known and name == "verbose":
                verbose = bool(_read(Flag("verbose", False, ""), text))
            elif known and name in _BY_NAME:
                given[name] = _read(_BY_NAME[name], text)
            else:
                # A switch needs its value: "--use_gpu" alone is unknown.
                unknown.append(word)
        return cls(given, tuple(unknown), verbose)

    def __getitem__(self, name: str) -> Value:
        return self.given.get(name, _BY_NAME[name].default)

    def number(self, name: str) -> float:
        return float(self[name])

    def text(self, name: str) -> str:
        return str(self[name])

    def switch(self, name: str) -> bool:
        return bool(self[name])

    def delegates(self) -> list[str]:
        """The switches of delegates that are asked for, in the order given."""
        names = ("use_gpu", "use_nnapi", "use_xnnpack")
        return [name for name in self.given if name in names and self.switch(name)]

    def echo(self, accelerators: Sequence[str], always: bool) -> list[str]:
        """The lines in which the tool tells its settings.

        Args:
            always: also those that new tools tell although they were not set.
        """
        lines = [f"Log parameter values verbosely: [{int(self.verbose)}]"]
        for flag in FLAGS:
            if flag.name == "max_delegated_partitions" and self._told("num_threads"):
                threads = _shown(self["num_threads"])
                lines.append(f"#threads used for CPU inference: [{threads}]")
            if flag.name in _OF_NNAPI and not self.switch("use_nnapi"):
                continue
            if self._told(flag.name) or (always and flag.name in _ALWAYS):
                lines.append(f"{flag.label}: [{_shown(self[flag.name])}]")
            if flag.name == "nnapi_accelerator_name" and accelerators:
                named = ",".join(accelerators)
                lines.append(f"NNAPI accelerators available: [{named}]")
        return lines

    def _told(self, name: str) -> bool:
        return name in self.given or (self.verbose and name not in _NEVER_UNSET)


def _read(flag: Flag, text: str) -> Value:
    if isinstance(flag.default, str):
        return text
    if isinstance(flag.default, bool):
        if text in ("true", "1", "false", "0"):
            return text in ("true", "1")
    else:
        # What follows the number is ignored.
        whole = isinstance(flag.default, int)
        if match := re.match(_WHOLE if whole else _DECIMAL, text):
            return type(flag.default)(match[0])
    raise BadValue(
        f"Failed to parse flag '{flag.name}' against argv '--{flag.name}={text}'"
    )


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:g}" if isinstance(value, float) else str(value)
