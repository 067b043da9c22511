// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The job secret: what every process of one job knows and nobody else does. It is read from a file
// or inherited, never from the environment or the command line, and never formatted.

#include <cstddef>
#include <span>
#include <string>

#include "transport/base/status.h"

namespace penstock {

inline constexpr std::size_t kMinSecretBytes = 16;
inline constexpr std::size_t kMaxSecretBytes = 4096;  // one page
// Names the file; never holds the secret itself.
inline constexpr const char* kSecretFileVariable = "PENSTOCK_SECRET_FILE";

// Thread: a value; not shared while it changes. The bytes live in a page of their own that core
// dumps leave out and that is wiped before it is returned. Trailing line ends do not count, so a
// file made with `openssl rand -hex 32 > file` and a copy of it without the line end are equal. A
// forked child keeps its parent's copy.
class Secret {
 public:
  Secret() = default;  // none
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;
  ~Secret();

  // 256 bits from the kernel's generator, as 64 hexadecimal digits.
  static Secret random();

  // kInvalidArgument when others than the owner may read the file, or its length is out of bounds;
  // kNotFound when there is none.
  static Result<Secret> from_file(const std::string& path);

  // Reads the file that PENSTOCK_SECRET_FILE names; kNotFound when it is not set.
  static Result<Secret> from_environment_file();

  // Reads `fd` (a pipe to its end, or a file from its start); it stays the caller's.
  static Result<Secret> from_fd(int fd);

  // Writes a new file with mode 0600 and a line end; kAlreadyExists when there is one.
  Status write_file(const std::string& path) const;

  Secret copy() const;
  bool empty() const { return size_ == 0; }
  std::span<const unsigned char> bytes() const { return {page_, size_}; }

 private:
  static Result<Secret> read_all(int fd, const std::string& name);
  void allocate();
  void clear();

  unsigned char* page_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace penstock
