"""Compiling a Triton kernel without a GPU, and reading registers, spills and instructions from the machine code."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel

TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(.*?);")
LABEL = re.compile(r"\s*\.(L_x_\d+):")
SPILL = re.compile(r"\b(LDL|STL)\b")
JUMP = re.compile(r"BRA.*?`\(\.(L_x_\d+)\)")


@dataclass(frozen=True)
class Code:
    """What a kernel became: registers of a thread, accesses to spilled ones, and instructions of each loop."""

    registers: int
    spills: int
    loops: list[list[str]]

    @property
    def innermost(self) -> list[list[str]]:
        """Loops without a loop inside."""
        return _innermost(self.loops)

    @property
    def spills_in_loops(self) -> int:
        """Accesses to spilled registers in innermost loops."""
        return sum(bool(SPILL.search(line)) for body in self.innermost for line in body)

    def instructions(self, elements: int, exponentials: int) -> float:
        """Instructions per element of the smallest loop with that many exponentials or more, for one lane."""
        busy = [body for body in self.loops if sum("MUFU" in line for line in body) >= exponentials]
        return min(len(body) for body in busy) / elements

    def walks(self, exponentials: int) -> list[list[str]]:
        """Innermost loops that store and have that many exponentials or more."""
        busy = [body for body in self.loops if sum("MUFU" in line for line in body) >= exponentials]
        return _innermost([body for body in busy if any("STG" in line for line in body)])

    def round(self, states: int, rank: int, steps: int) -> float:
        """Instructions of the smallest loop around all walks, for one of the ``steps`` time steps that it covers.

        An innermost loop covers, at a time, the time steps that it has exponentials for: one each for a step size, or
        ``states`` each for decays. Without any it multiplies by the ``rank`` inputs of Δ once a time step. The compiler
        unrolls the loop over step sizes; what remains of it in a loop of its own does not run.
        """
        walks = self.walks(states)
        outer = min((body for body in self.loops if all(_contains(body, walk) for walk in walks)), key=len)
        inner = [body for body in self.innermost if _contains(outer, body)]
        total = (len(outer) - sum(len(body) for body in inner)) / steps
        step_sizes = []
        for body in inner:
            exponentials = sum("MUFU.EX2" in line for line in body)
            if exponentials >= states:
                total += len(body) / (exponentials // states)
            elif exponentials:
                step_sizes.append(len(body) / exponentials)
            else:
                total += len(body) / (sum("FFMA" in line for line in body) // rank)
        return total + min(step_sizes)


def compiled(kernel: Any, constants: dict[str, Any], wide: str, target: GPUTarget, types: dict[str, str]) -> Any:
    """The kernel for a target, its arguments aligned as a launch with sizes that are multiples of 16 has them.

    wide: names of the sizes that are multiples of 16; types: pointer types other than float32.
    """
    names = kernel.arg_names
    signature = {n: "constexpr" if n in constants else types.get(n, "*fp32" if n[:2] == "p_" else "i32") for n in names}
    free = {p.name for p in kernel.params if p.do_not_specialize_on_alignment}
    aligned = [i for i, n in enumerate(names) if n not in constants and n not in free and (n[:2] == "p_" or n in wide)]
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(n),): value for n, value in constants.items()},
        attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
    )
    return triton.compile(source, target=target, options={"num_warps": 1, "enable_fp_fusion": True})


def read(kernel: CompiledKernel, folder: Path) -> Code:
    """Disassemble a kernel for NVIDIA with the tools that come with Triton."""
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(kernel.asm["cubin"])
    usage = _run("cuobjdump", "-res-usage", cubin)
    lines, labels, loops = [], {}, []
    for line in _run("nvdisasm", "-c", cubin).splitlines():
        if label := LABEL.match(line):
            labels[label[1]] = len(lines)
        elif found := INSTRUCTION.search(line):
            lines.append(f"{len(lines)} {found[1]}")
            jump = JUMP.search(found[1])
            if jump and jump[1] in labels:
                loops.append(lines[labels[jump[1]] :])
    spills = sum(bool(SPILL.search(line)) for line in lines)
    registers = re.search(r"REG:(\d+)", usage)
    assert registers, usage
    return Code(int(registers[1]), spills, loops)


def _innermost(loops: list[list[str]]) -> list[list[str]]:
    return [body for body in loops if not any(_contains(body, other) for other in loops)]


def _contains(body: list[str], other: list[str]) -> bool:
    return len(other) < len(body) and other[0] in body


def _run(tool: str, *args: object) -> str:
    command = [str(TOOLS / tool), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
