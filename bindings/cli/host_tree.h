// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reads what the kernel says in small files, under a root: "/" on a host, a made-up tree in tests.
// Thread: any.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::cli {

class HostTree {
 public:
  explicit HostTree(std::string root) : root_(std::move(root)) {}

  // The file's text up to 256 KiB, without blanks at its end; nothing when it cannot be read.
  // `path` begins with "/".
  std::optional<std::string> text(const std::string& path) const;
  // A file that holds one number.
  std::optional<std::uint64_t> number(const std::string& path) const;
  bool exists(const std::string& path) const;
  // Names in a folder, sorted, without "." and "..", 4096 at most; empty when there is none.
  std::vector<std::string> names(const std::string& folder) const;
  // What follows `key` on the line that begins with it, without blanks around it.
  std::optional<std::string> line_after(const std::string& path, std::string_view key) const;

 private:
  const std::string root_;
};

std::vector<std::string> split_words(std::string_view text);  // at blanks
std::optional<std::uint64_t> parse_number(std::string_view digits);

}  // namespace penstock::cli
