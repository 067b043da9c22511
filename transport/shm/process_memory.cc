// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/process_memory.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>

namespace penstock::shm {
namespace {

using Call = decltype(&::process_vm_readv);

// The kernel may stop where a page ends that is not there, and goes on from there in the next call.
Code copy(Call call, pid_t pid, std::byte* here, std::uint64_t there, std::size_t length) {
  while (length > 0) {
    const iovec local{here, length};
    const iovec remote{reinterpret_cast<void*>(there), length};
    const ssize_t copied = call(pid, &local, 1, &remote, 1, 0);
    if (copied <= 0) {
      if (errno == ESRCH) return Code::kConnectionLost;
      return copied == 0 || errno == EFAULT ? Code::kAccess : Code::kUnsupported;
    }
    here += copied;
    there += static_cast<std::uint64_t>(copied);
    length -= static_cast<std::size_t>(copied);
  }
  return Code::kOk;
}

}  // namespace

ProcessMemory ProcessMemory::open(int socket, std::uint64_t address, std::uint64_t probe) {
  ProcessMemory memory;
  ucred peer{};
  socklen_t length = sizeof peer;
  if (address == 0 || ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 ||
      peer.pid <= 0)  // 0: not in our namespace of processes
    return {};
  memory.pid_ = peer.pid;
  std::uint64_t found = ~probe;
  const Code code = memory.read(address, std::as_writable_bytes(std::span(&found, 1)));
  return code == Code::kOk && found == probe ? memory : ProcessMemory();
}

Code ProcessMemory::write(std::span<const std::byte> from, std::uint64_t to) const {
  return copy(&::process_vm_writev, pid_, const_cast<std::byte*>(from.data()), to, from.size());
}

Code ProcessMemory::read(std::uint64_t from, std::span<std::byte> to) const {
  return copy(&::process_vm_readv, pid_, to.data(), from, to.size());
}

}  // namespace penstock::shm
