// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "bindings/cli/finding.h"
#include "bindings/cli/host_tree.h"

namespace penstock::test {

// A made-up /proc, /sys and /dev in a temporary folder, gone with this.
class FakeTree {
 public:
  FakeTree() {
    std::string name = (std::filesystem::temp_directory_path() / "penstock_tree_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp " + name);
    root_ = name;
  }
  FakeTree(const FakeTree&) = delete;
  FakeTree& operator=(const FakeTree&) = delete;
  ~FakeTree() { std::filesystem::remove_all(root_); }

  FakeTree& file(const std::string& path, const std::string& text = "") {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
    return *this;
  }
  std::string path(const std::string& path) const { return root_ + path; }
  cli::HostTree tree() const { return cli::HostTree(root_); }

 private:
  std::string root_;
};

// The finding of that id; fails the test and returns an empty one when there is none.
inline cli::Finding finding_of(const cli::Findings& findings, const std::string& id) {
  for (const cli::Finding& finding : findings)
    if (finding.id == id) return finding;
  ADD_FAILURE() << "no finding " << id << " in\n" << cli::to_text(findings);
  return {};
}

}  // namespace penstock::test
