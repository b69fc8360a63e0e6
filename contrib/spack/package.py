# SPDX-License-Identifier: MIT
"""moekit for Spack 1.0 or later, built from a checkout:

    spack repo create moekit-repo moekit
    mkdir -p moekit-repo/packages/moekit && cp contrib/spack/package.py moekit-repo/packages/moekit
    spack repo add moekit-repo
    spack develop --path $PWD moekit@0.1.0 && spack install moekit      (in an environment: spack env create …)
"""

from spack_repo.builtin.build_systems.makefile import MakefilePackage

from spack.package import *


class Moekit(MakefilePackage):
    """Plan, check, run, checkpoint and report Mixture-of-Experts training, from a shell."""

    license("MIT")

    version("0.1.0")

    variant("cuda", default=False, description="the backend for NVIDIA's GPUs")

    depends_on("c", type="build")
    depends_on("cxx", type="build", when="+cuda")
    depends_on("pkgconfig", type="build")
    depends_on("jansson")
    depends_on("zlib-api")
    depends_on("libarchive")
    depends_on("libdeflate")
    depends_on("isa-l")
    depends_on("zstd")
    depends_on("openmpi@4:")
    # 3.0 took the interface with operation descriptors away.
    depends_on("onednn@2.6:2")
    depends_on("cuda@12.8:", when="+cuda")
    depends_on("gnuplot", type="run")

    @property
    def build_targets(self):
        cuda = self.spec["cuda"].prefix if self.spec.satisfies("+cuda") else ""
        return ["all", f"CC={self.compiler.cc}", f"CUDA_HOME={cuda}", f"prefix={self.prefix}"]

    @property
    def install_targets(self):
        return ["install"] + self.build_targets[1:]
