// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/base/host_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>

namespace penstock {
namespace {
constexpr std::size_t kHugePage = std::size_t{2} << 20;
}  // namespace

HostMemory::~HostMemory() {
  if (!mapping_.empty()) ::munmap(mapping_.data(), mapping_.size());
}

Result<HostMemory> HostMemory::allocate(std::size_t bytes) {
  HostMemory memory;
  if (bytes == 0) return memory;
  // Blocks of a huge page and more start on one, or the system could not use them. The slack is
  // address space only: nobody touches it.
  const std::size_t slack = bytes >= kHugePage ? kHugePage : 0;
  void* const mapped = ::mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED)
    return Status(Code::kExhausted, fmt::format("allocate {} bytes (errno {})", bytes, errno))
        .with_hint("use more servers or a smaller model");
  auto* const start = static_cast<std::byte*>(mapped);
  memory.mapping_ = {start, bytes + slack};
  const std::size_t misaligned = reinterpret_cast<std::uintptr_t>(start) % kHugePage;
  const std::size_t skip = slack == 0 || misaligned == 0 ? 0 : kHugePage - misaligned;
  memory.bytes_ = memory.mapping_.subspan(skip, bytes);
  if (slack != 0) ::madvise(memory.bytes_.data(), bytes, MADV_HUGEPAGE);
  return memory;
}

}  // namespace penstock
