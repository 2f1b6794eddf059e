# SPDX-License-Identifier: MIT
"""rsseg as its users get it:  samples.py SOURCE [BUILD]

 - samples/subproject_user in a temporary directory, with SOURCE as its subproject rsseg: configured, built, run
 - the same source against what `meson install` of BUILD (built before) puts into a directory: through pkg-config, against the library
   (rsseg) and with the headers alone (rsseg-headers); with the headers alone a program that reads and writes files, too
Exits with 1 at the first that fails."""
import os, pathlib, shlex, shutil, subprocess, sys, tempfile

source = pathlib.Path(sys.argv[1]).resolve()
build = pathlib.Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else None
user = source / "samples" / "subproject_user"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # other tests may run on the same cores
launcher = ["ccache"] if shutil.which("ccache") else []


def run(*command, env=None):
    command = [str(c) for c in command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    if done.returncode:
        print(f"{done.stdout[-6000:]}\nsamples: exit code {done.returncode}: {shlex.join(command)}")
        sys.exit(1)
    return done.stdout


def subproject(where):
    project = where / "land_cover"
    shutil.copytree(user, project, ignore=shutil.ignore_patterns("rsseg", ".git"))
    (project / "subprojects" / "rsseg").symlink_to(source, target_is_directory=True)
    run("meson", "setup", "--force-fallback-for=rsseg", where / "build", project)
    run("meson", "compile", "-C", where / "build", "land_cover")
    print("subproject:", run(where / "build" / "land_cover").strip())


def installed(where):
    tree = where / "tree"
    run("meson", "install", "-C", build, "--no-rebuild", "--tags", "devel", "--destdir", tree)
    found = sorted(tree.rglob("rsseg*.pc"))
    if [f.name for f in found] != ["rsseg-headers.pc", "rsseg.pc"]:
        sys.exit(f"samples: expected rsseg.pc and rsseg-headers.pc to be installed, got {[str(f) for f in found]}")
    for pc in found:  # they name the prefix, which the tree is not in
        lines = pc.read_text().splitlines()
        prefix = next(line[len("prefix="):] for line in lines if line.startswith("prefix="))
        pc.write_text("\n".join("prefix=" + str(tree) + prefix if line.startswith("prefix=") else line for line in lines) + "\n")
    path = os.pathsep.join([str(found[0].parent)] + list(filter(None, [os.environ.get("PKG_CONFIG_PATH")])))
    env = dict(os.environ, PKG_CONFIG_PATH=path)
    programs = [("rsseg", user / "land_cover.cpp"), ("rsseg-headers", user / "land_cover.cpp")]
    if "nlohmann_json" in (found[0].parent / "rsseg-headers.pc").read_text():  # not in builds without the program
        programs.append(("rsseg-headers", source / "samples" / "infer_image.cpp"))
    for package, program in programs:
        flags = shlex.split(run("pkg-config", "--cflags", "--libs", package, env=env))
        libs = [f for f in flags if f[:2] in ("-l", "-L") or f in ("-fopenmp", "-pthread")]
        cflags = [f for f in flags if f[:2] not in ("-l", "-L")]
        binary = where / f"{program.stem}-{package}"
        run(*launcher, "g++", "-std=c++20", "-O1", *cflags, "-c", program, "-o", f"{binary}.o")
        run("g++", f"{binary}.o", *libs, "-o", binary)
        print(f"pkg-config {package}:", run(binary).strip())


with tempfile.TemporaryDirectory(prefix="rsseg-samples-") as directory:
    if build:
        installed(pathlib.Path(directory))
    subproject(pathlib.Path(directory))
