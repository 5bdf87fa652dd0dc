"""Build flags of the C core; everything else is in pyproject.toml.

GOROUTINES_DEBUG=1           assertions on, -Og
GOROUTINES_TORTURE=1         force a switch, a collection or a stack save at every chance
GOROUTINES_SANITIZE=LIST     address, undefined or thread, separated by commas
"""

import os
import platform
import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CORE = "src/runtime"
MEMORY = "src/memory"
POLLERS = {"linux": "epoll", "darwin": "kqueue"}
ASSEMBLERS = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def machine() -> str:
    """Return the CPU that the extension is built for, not the one it is built on."""
    name = sysconfig.get_platform().rpartition("-")[2]
    if name != "universal2":
        return name
    # The switch is assembled for one CPU, so a fat interpreter gets a thin extension.
    os.environ.setdefault("ARCHFLAGS", f"-arch {platform.machine()}")
    return platform.machine()


def check_platform() -> None:
    supported = (
        sys.implementation.name == "cpython"
        and sys.platform in POLLERS
        and machine() in ASSEMBLERS
        and sys.maxsize > 2**32
    )
    if not supported:
        bits = 64 if sys.maxsize > 2**32 else 32
        sys.exit(
            "error: goroutines needs CPython on Linux or macOS, x86-64 or aarch64, 64 bits; "
            f"this is {sys.implementation.name} for {sysconfig.get_platform()}, {bits} bits"
        )


def sources() -> list[str]:
    """List the C files, without other platforms' pollers, and this CPU's switch."""
    other = tuple(f"_{p}.c" for s, p in POLLERS.items() if s != sys.platform)
    c_files = [f for f in glob(f"{CORE}/*.c") if not f.endswith((".inc.c", *other))]
    c_files += glob(f"{MEMORY}/*.c")
    return [*sorted(c_files), f"{CORE}/asm_{ASSEMBLERS[machine()]}.S"]


def flags() -> tuple[list[str], list[str]]:
    """Return the arguments for the compiler and for the linker."""
    # No stack protector: the switch returns on a stack whose bytes it has just replaced.
    compile_args = [
        "-std=c11", "-O3", "-g", "-Wall", "-Wextra", "-Wno-unused-parameter",
        "-fvisibility=hidden", "-fno-strict-aliasing", "-fno-stack-protector",
    ]  # fmt: skip
    link_args = []
    if os.environ.get("GOROUTINES_DEBUG"):
        compile_args += ["-Og", "-UNDEBUG", "-DGOROUTINES_DEBUG"]
    if os.environ.get("GOROUTINES_TORTURE"):
        compile_args += ["-DGOROUTINES_TORTURE"]
    if sanitizers := os.environ.get("GOROUTINES_SANITIZE"):
        link_args = [f"-fsanitize={sanitizers}"]
        compile_args += [*link_args, "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
        if "address" in sanitizers:
            # Red zones around locals would stay behind when a goroutine's stack moves.
            clang = "clang" in (os.environ.get("CC") or sysconfig.get_config_var("CC"))
            compile_args += ["-mllvm", "-asan-stack=0"] if clang else ["--param=asan-stack=0"]
    return compile_args, link_args


def has_cached_chunk() -> bool:
    """Whether this CPython keeps a chunk of frames: newer patch releases from 3.13 on do."""
    header = os.path.join(sysconfig.get_path("include"), "cpython", "pystate.h")
    with open(header, encoding="utf-8") as file:
        return "datastack_cached_chunk" in file.read()


class BuildExt(build_ext):
    """build_ext that assembles .S files, and that never trusts an earlier build."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.force = True  # the flags come from the environment, which no file date shows

    def build_extensions(self) -> None:
        self.compiler.src_extensions = [*self.compiler.src_extensions, ".S"]
        super().build_extensions()


check_platform()
compile_args, link_args = flags()
if has_cached_chunk():
    compile_args.append("-DCACHED_CHUNK")
setup(
    cmdclass={"build_ext": BuildExt},
    ext_modules=[
        Extension(
            "goroutines._runtime",
            sources(),
            include_dirs=[CORE, MEMORY],
            depends=sorted(glob("src/*/*.h") + glob(f"{CORE}/*.inc.c")),
            extra_compile_args=compile_args,
            extra_link_args=link_args,
        )
    ],
)
