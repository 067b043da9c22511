# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""scripts/tidy on small trees with one fault each."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

TIDY = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "tidy"
HEAD = ("// SPDX-FileCopyrightText: The Penstock authors\n"
        "// SPDX-License-Identifier: Apache-2.0\n")


class Tidy(unittest.TestCase):
    def run_tidy(self, files, *options):
        """Checks a tree of `files` (name → text) and returns (exit status, output lines)."""
        with tempfile.TemporaryDirectory() as root:
            for name, text in files.items():
                path = pathlib.Path(root, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
                for folder in list(path.relative_to(root).parents)[:-1]:
                    pathlib.Path(root, folder, "README.md").touch()
            done = subprocess.run([sys.executable, str(TIDY), "--root", root, *options],
                                  capture_output=True, text=True, check=False)
            self.assertEqual(done.stderr, "")
            return done.returncode, done.stdout.splitlines()

    def expect(self, finding, name, text, options=("--no-format",)):
        status, lines = self.run_tidy({name: text}, *options)
        self.assertEqual(status, 1)
        self.assertEqual(len(lines), 2, lines)
        self.assertTrue(lines[0].startswith(finding), lines)

    def expect_clean(self, name, text, options=("--no-format",)):
        status, lines = self.run_tidy({name: text}, *options)
        self.assertEqual((status, lines), (0, ["tidy: 0 findings"]))

    def include(self, name, target):
        return name, HEAD + f'#include "{target}"\n'

    def test_accepts_arrows_that_point_down(self):
        for name, target in [("engine/worker/a.cc", "transport/api/device.h"),
                             ("engine/server/a.cc", "engine/protocol/slice.h"),
                             ("engine/worker/a.cc", "engine/worker/b.h"),
                             ("transport/tcp/a.cc", "transport/base/status.h"),
                             ("transport/providers.cc", "transport/tcp/device.h"),
                             ("kernels/cpu/a.cc", "kernels/math/b.h"),
                             ("bench/psbench/a.cc", "transport/providers.h"),
                             ("tests/engine/a.cc", "transport/tcp/device.h")]:
            self.expect_clean(*self.include(name, target))

    def test_refuses_arrows_that_point_up_or_sideways(self):
        for name, target in [("transport/tcp/a.cc", "transport/loopback/device.h"),
                             ("transport/tcp/a.cc", "engine/protocol/slice.h"),
                             ("transport/base/a.cc", "transport/api/types.h"),
                             ("transport/api/a.cc", "transport/tcp/device.h"),
                             ("kernels/cpu/a.cc", "transport/api/types.h"),
                             ("engine/worker/a.cc", "engine/server/b.h"),
                             ("engine/server/a.cc", "engine/worker/b.h"),
                             ("engine/protocol/a.cc", "engine/runtime/b.h"),
                             ("engine/runtime/a.cc", "engine/worker/b.h"),
                             ("engine/worker/a.cc", "transport/tcp/device.h"),
                             ("engine/worker/a.cc", "transport/providers.h"),
                             ("bench/psbench/a.cc", "transport/tcp/device.h"),
                             ("engine/worker/a.cc", "bindings/cpp/b.h")]:
            self.expect(f"{name}:3: arrow: ", *self.include(name, target))

    def test_refuses_an_include_that_is_not_from_the_root(self):
        self.expect("kernels/cpu/a.cc:3: include: ", *self.include("kernels/cpu/a.cc", "../b.h"))
        self.expect("kernels/cpu/a.cc:3: include: ", *self.include("kernels/cpu/a.cc", "b.h"))

    def test_refuses_a_source_without_its_licence(self):
        self.expect("kernels/a.cc:1: spdx: ", "kernels/a.cc", HEAD.splitlines()[0] + "\n")
        self.expect("scripts/go:1: spdx: ", "scripts/go", "#!/bin/sh\n# " + HEAD[3:].split("\n")[0])

    def test_refuses_a_header_without_pragma_once(self):
        self.expect("kernels/a.h:1: pragma: ", "kernels/a.h", HEAD)
        self.expect_clean("kernels/a.h", HEAD + "#pragma once\n")
        self.expect_clean("kernels/a-inl.h", HEAD)

    def test_refuses_a_file_that_is_too_long(self):
        self.expect("kernels/a.cc:401: length: ", "kernels/a.cc", HEAD + "\n" * 399)
        self.expect_clean("kernels/a.cc", HEAD + "\n" * 398)

    def test_refuses_a_function_that_is_too_long(self):
        def member(lines):
            return (HEAD + 'namespace a {\nclass B {\n public:\n  B(int c) : c_{c}, d_(1) {\n' +
                    '    f("}", \'}\');  // }\n' * (lines - 2) + "  }\n  int c_, d_;\n};\n}\n")
        self.expect_clean("kernels/a.cc", member(70))
        self.expect("kernels/a.cc:6: function: 71 lines", "kernels/a.cc", member(71))

    def test_takes_no_namespace_class_or_table_for_a_function(self):
        for opening, closing in [("namespace {", "}"), ("struct A {", "};"),
                                 ("class X(y) Z final : public B {", "};"),
                                 ("constexpr int kTable[] = {", "};"), ("enum class E : int {", "};")]:
            self.expect_clean("kernels/a.cc", HEAD + opening + "\n" * 90 + closing + "\n")

    def test_refuses_a_conditional_inside_a_function(self):
        self.expect("kernels/a.cc:4: conditional: ", "kernels/a.cc",
                    HEAD + "void f() {\n#ifdef A\n#endif\n}\n")
        self.expect_clean("kernels/a.cc", HEAD + "#ifdef A\nvoid f() {}\n#endif\n")
        self.expect_clean("kernels/a.cc", HEAD + "void f() {\n#if HWY_TARGET\n#endif\n}\n")

    def test_refuses_paths_loose_ends_and_mirrors_anywhere(self):
        self.expect("docs/a.md:2: text: ", "docs/a.md", "\nsee /wor" + "k/main\n")
        self.expect("docs/a.md:1: text: ", "docs/a.md", "TO" + "DO: more\n")
        self.expect("docs/a.md:1: text: ", "docs/a.md", "from http://deb.deb" + "ian.org\n")
        self.expect_clean("docs/a.md", "mkstemp(\"/tmp/aXXXXXX\")\n")

    def test_refuses_a_folder_without_a_readme(self):
        with tempfile.TemporaryDirectory() as root:
            path = pathlib.Path(root, "kernels/cpu/a.cc")
            path.parent.mkdir(parents=True)
            path.write_text(HEAD, encoding="utf-8")
            done = subprocess.run([sys.executable, str(TIDY), "--root", root, "--no-format"],
                                  capture_output=True, text=True, check=False)
            self.assertIn("kernels:1: readme: ", done.stdout)
            self.assertIn("kernels/cpu:1: readme: ", done.stdout)

    def test_refuses_text_that_clang_format_would_change(self):
        self.expect("kernels/a.cc:3: format: ", "kernels/a.cc", HEAD + "int   a;\n", options=())
        self.expect_clean("kernels/a.cc", HEAD + "int a;\n", options=())


if __name__ == "__main__":
    unittest.main()
