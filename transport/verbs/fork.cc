// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/fork.h"

#include <sys/utsname.h>

#include <charconv>

namespace penstock::verbs {
namespace {

// hugetlbfs pages came last.
constexpr int kCopiesAtFork[] = {5, 12};

// The number at the front of `text`, taken off it with the dot behind it; −1 when there is none.
int take_number(std::string_view& text) {
  int number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return -1;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (text.starts_with('.')) text.remove_prefix(1);
  return number;
}

}  // namespace

bool fork_init_needed(std::optional<int> library, std::string_view kernel_release) {
  if (library == kForkUnneeded) return false;
  // What the library says otherwise may only mean that the kernel cannot be asked: it can be asked
  // since 5.13.
  const int major = take_number(kernel_release);
  const int minor = take_number(kernel_release);
  return major < kCopiesAtFork[0] || (major == kCopiesAtFork[0] && minor < kCopiesAtFork[1]);
}

Status make_fork_safe(const VerbsApi& api) {
  utsname kernel{};
  ::uname(&kernel);
  return make_fork_safe(api, kernel.release);
}

Status make_fork_safe(const VerbsApi& api, std::string_view kernel_release) {
  std::optional<int> library;
  if (api.ibv_is_fork_initialized != nullptr) library = api.ibv_is_fork_initialized();
  if (!fork_init_needed(library, kernel_release)) return {};
  const int error = api.ibv_fork_init();
  if (error == 0) return {};
  return Status::system("hide registered memory from child processes (ibv_fork_init)", error)
      .with_hint(
          "do not fork, or set IBV_FORK_SAFE=1 before the program starts: something here had "
          "registered memory before the device was opened");
}

}  // namespace penstock::verbs
