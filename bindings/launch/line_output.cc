// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/launch/line_output.h"

#include <unistd.h>

#include <array>
#include <cerrno>

namespace penstock::launch {
namespace {

// Nothing can be said when our own output is gone.
void write_all(int target, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(target, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

void LineOutput::pass_on(std::string_view line) {
  std::string whole = prefix_;
  whole += line;
  whole += '\n';
  write_all(target_, whole);
}

bool LineOutput::read_some() {
  if (!pipe_.valid()) return false;
  std::array<char, 8192> bytes;
  const ssize_t got = ::read(pipe_.get(), bytes.data(), bytes.size());
  if (got < 0 && errno == EINTR) return true;
  if (got < 0 && errno == EAGAIN) return false;
  if (got <= 0) {
    pipe_.reset();
    return false;
  }
  partial_.append(bytes.data(), static_cast<std::size_t>(got));
  std::size_t begin = 0;
  for (std::size_t end; (end = partial_.find('\n', begin)) != std::string::npos; begin = end + 1)
    pass_on(std::string_view(partial_).substr(begin, end - begin));
  partial_.erase(0, begin);
  if (partial_.size() > kMaxLine) {
    pass_on(partial_);
    partial_.clear();
  }
  return true;
}

void LineOutput::pump() {
  // A bound, so that one process that prints for ever does not keep the others waiting.
  for (int reads = 0; reads < 16 && read_some(); ++reads) {
  }
}

void LineOutput::finish() {
  pump();
  if (!partial_.empty()) pass_on(partial_);
  partial_.clear();
  pipe_.reset();
}

}  // namespace penstock::launch
