// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/cli/host_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <memory>

#include "transport/base/unique_fd.h"

namespace penstock::cli {
namespace {

constexpr std::size_t kMostBytes = std::size_t{256} << 10;
constexpr std::size_t kMostNames = 4096;
constexpr std::string_view kBlanks = " \t\n\r";

std::string_view trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

}  // namespace

std::optional<std::string> HostTree::text(const std::string& path) const {
  // O_NONBLOCK: a pipe in the way must not hold us.
  const UniqueFd file(::open((root_ + path).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return std::nullopt;
  std::string text(kMostBytes, '\0');
  std::size_t size = 0;
  while (size < kMostBytes) {
    const ssize_t got = ::read(file.get(), text.data() + size, kMostBytes - size);
    if (got < 0) return std::nullopt;
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  text.resize(size);
  text.resize(text.find_last_not_of(kBlanks) + 1);  // npos + 1 is 0
  return text;
}

std::optional<std::uint64_t> HostTree::number(const std::string& path) const {
  const std::optional<std::string> digits = text(path);
  return digits ? parse_number(*digits) : std::nullopt;
}

bool HostTree::exists(const std::string& path) const {
  struct stat status {};
  return ::stat((root_ + path).c_str(), &status) == 0;
}

std::vector<std::string> HostTree::names(const std::string& folder) const {
  std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir((root_ + folder).c_str()), ::closedir);
  std::vector<std::string> names;
  if (open == nullptr) return names;
  while (names.size() < kMostNames) {
    const dirent* entry = ::readdir(open.get());
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::optional<std::string> HostTree::line_after(const std::string& path,
                                                std::string_view key) const {
  const std::optional<std::string> all = text(path);
  std::string_view rest = all ? std::string_view(*all) : std::string_view();
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    if (rest.starts_with(key)) return std::string(trim(rest.substr(0, end).substr(key.size())));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return std::nullopt;
}

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  while (!(text = trim(text)).empty()) {
    const std::size_t end = std::min(text.find_first_of(kBlanks), text.size());
    words.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return words;
}

std::optional<std::uint64_t> parse_number(std::string_view digits) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

}  // namespace penstock::cli
