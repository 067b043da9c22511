// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Memory of another process, copied by the kernel (process_vm_readv and process_vm_writev): one
// copy where it is not shared. Systems allow it among processes of one user that could also trace
// each other; not with kernel.yama.ptrace_scope above 0, nor where a container forbids the calls.
// Thread: any, one at a time.

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "transport/base/status.h"

namespace penstock::shm {

class ProcessMemory {
 public:
  ProcessMemory() = default;  // of nobody
  // Of the process at the other end of `socket`. Of nobody unless its word at `address` can be read
  // and is `probe`: what the peer says of itself is not believed.
  static ProcessMemory open(int socket, std::uint64_t address, std::uint64_t probe);

  explicit operator bool() const { return pid_ != 0; }

  // All bytes, or: kAccess, they are not (all) there; kConnectionLost, the process is gone;
  // kUnsupported, the system no longer allows it. Some may have been copied.
  Code write(std::span<const std::byte> from, std::uint64_t to) const;
  Code read(std::uint64_t from, std::span<std::byte> to) const;

 private:
  pid_t pid_ = 0;
};

}  // namespace penstock::shm
