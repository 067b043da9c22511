# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""wheel_test.py REPOSITORY: builds the wheel, looks into it, and trains with it from elsewhere.

By the interpreter that runs it, without a package index: pip, scikit_build_core and pybind11 must be
importable. The build folder is build/wheel and CXX the other build's, so that ccache has what
build/release has compiled.
"""
import importlib.util
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import venv
import zipfile

REPOSITORY = pathlib.Path(sys.argv.pop()).resolve()
BUILD_S, TRAIN_S = 1700, 240
MISSING = [name for name in ("pip", "scikit_build_core", "pybind11")
           if importlib.util.find_spec(name) is None]


def run(*command, timeout=60, **options):
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def pip(*arguments, timeout=120, python=sys.executable):
    return run(python, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments,
               "--no-index", "--no-deps", timeout=timeout)


class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        pip("wheel", "--no-build-isolation", "--wheel-dir", cls.folder,
            "--config-settings", f"build-dir={REPOSITORY}/build/wheel",
            "--config-settings", "cmake.define.PENSTOCK_WERROR=ON", REPOSITORY, timeout=BUILD_S)
        cls.wheel, = cls.folder.glob("*.whl")
        venv.create(cls.folder / "env", system_site_packages=True, with_pip=False)
        cls.python = cls.folder / "env" / "bin" / "python"
        pip("install", "--prefix", cls.folder / "env", cls.wheel)

    def test_has_what_a_package_needs_and_nothing_else(self):
        version = re.search(r'^version = "(.*?)"', (REPOSITORY / "pyproject.toml").read_text(),
                            re.MULTILINE).group(1)
        self.assertRegex(self.wheel.name, rf"^penstock-{re.escape(version)}-cp3\d+-cp3\d+-linux_")
        with zipfile.ZipFile(self.wheel) as archive:
            names = set(archive.namelist())
            metadata = archive.read(f"penstock-{version}.dist-info/METADATA").decode()
            license_file, = [name for name in names if name.endswith("/LICENSE")]
            self.assertEqual(archive.read(license_file), (REPOSITORY / "LICENSE").read_bytes())
        sources = REPOSITORY / "bindings/python"
        expected = {str(path.relative_to(sources)) for path in sources.glob("penstock/**/*")
                    if path.suffix in (".py", ".pyi") or path.name == "py.typed"}
        self.assertLessEqual({"penstock/py.typed", "penstock/_penstock.pyi"}, expected)
        packed = {name for name in names if name.startswith("penstock/")}
        libraries = {name for name in packed if ".so" in name}
        self.assertEqual(packed - libraries, expected)
        self.assertEqual({name.split(".")[0] + ".so" for name in libraries},
                         {"penstock/_penstock.so", "penstock/libpenstock.so"})
        self.assertEqual(len(libraries), 2, libraries)
        self.assertIn(f"\nVersion: {version}\n", metadata)
        self.assertRegex(metadata, r"\nLicense(-Expression)?: Apache-2.0\n")
        self.assertIn("\nProvides-Extra: torch\n", metadata)

    def test_its_program_is_there(self):
        self.assertIn("tcp works here",
                      run(self.folder / "env/bin/penstock", "doctor", "--transport", "tcp"))

    def test_trains_from_another_folder(self):
        package = self.package()
        print(run(self.python, REPOSITORY / "tests/install/consumer_python/main.py", package, package,
                  REPOSITORY / "pyproject.toml", cwd=self.folder).splitlines()[-1])

    def test_trains_a_torch_model_with_two_workers(self):
        try:
            run(self.python, "-c", "import torch, numpy")
        except AssertionError:
            self.skipTest("no torch and numpy for " + sys.executable)
        said = run(self.python, REPOSITORY / "bindings/python/examples/digits.py", "--data",
                   REPOSITORY / "tests/data/digits.csv", "--workers", 2, "--epochs", 6,
                   cwd=self.folder, timeout=TRAIN_S).splitlines()[-1]
        self.assertGreater(float(re.search(r"accuracy ([\d.]+)", said).group(1)), 0.8, said)

    def package(self):
        found = run(self.python, "-c", "import penstock; print(penstock.__path__[0])",
                    cwd=self.folder).splitlines()[-1]
        self.assertTrue(found.startswith(str(self.folder / "env")), found)
        return found


if __name__ == "__main__":
    if MISSING:
        print(f"SKIP: {sys.executable} has no {', '.join(MISSING)}; name an interpreter that does "
              "with -DPENSTOCK_WHEEL_PYTHON=…")
        sys.exit(77)
    unittest.main()
