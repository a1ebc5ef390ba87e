"""The precision that a processor does well, told by its flags."""

import subprocess
import sys

import pytest
import torch
from small_recipes import WINDOW

from firstspike.models.precision import fast_precision

CODE = "from firstspike.models.precision import fast_precision; print(fast_precision('cpu'))"


@pytest.mark.parametrize(
    ("units", "capability", "limit", "expected"),
    [
        (True, "AVX512", "", "bfloat16"),
        (True, "AVX512", "ALL", "bfloat16"),
        (True, "AVX512", "avx512_core_amx", "bfloat16"),
        (True, "AVX512", "AVX512_CORE_BF16", "bfloat16"),
        (True, "AVX512", "AVX512_CORE", "float32"),
        (True, "AVX512", "avx2", "float32"),
        (True, "AVX2", "", "float32"),
        (True, "DEFAULT", "", "float32"),
        (False, "AVX512", "", "float32"),
    ],
)
def test_units_that_are_there_and_used(monkeypatch, units, capability, limit, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: units, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert fast_precision("cpu") == expected


def test_a_torch_that_cannot_tell_takes_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert fast_precision("cpu") == "float32"


@pytest.mark.parametrize(("capability", "expected"), [((8, 0), "bfloat16"), ((7, 5), "float32")])
def test_a_gpu_by_its_generation(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert fast_precision("cuda:1") == expected


def test_a_processor_without_its_newer_units(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == "float32\n"


def test_a_word_is_kept_and_auto_is_settled(monkeypatch):
    monkeypatch.setattr("firstspike.recipes.base.fast_precision", lambda device: "bfloat16")
    assert WINDOW.precision_on("cpu") == "bfloat16"
    settled = WINDOW.at("float32")
    assert (settled.precision, settled.precision_on("cpu")) == ("float32", "float32")
