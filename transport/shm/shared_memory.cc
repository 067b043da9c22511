// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/shared_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "transport/shm/huge_pages.h"

namespace penstock::shm {
namespace {

constexpr unsigned kHugePages = MFD_HUGETLB | 21U << 26;  // of 2²¹ bytes: MFD_HUGE_2MB
constexpr int kFixedSize = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

std::size_t whole_pages(std::size_t bytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return (std::max<std::size_t>(bytes, 1) + page - 1) / page * page;
}

// `size`: whole pages.
Result<SharedMemory> create(std::size_t size, unsigned memfd_flags, int map_flags, Others others) {
  SharedMemory memory;
  memory.fd.reset(::memfd_create("penstock", MFD_CLOEXEC | MFD_ALLOW_SEALING | memfd_flags));
  if (!memory.fd.valid()) return Status::system("create shared memory", errno);
  if (::ftruncate(memory.fd.get(), static_cast<off_t>(size)) != 0)
    return Status(Code::kExhausted, fmt::format("share {} bytes", size)).with_system(errno);
  void* const mapped =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | map_flags, memory.fd.get(), 0);
  if (mapped == MAP_FAILED)
    return Status(Code::kExhausted, fmt::format("map {} shared bytes", size)).with_system(errno);
  memory.mapping = Mapping({static_cast<std::byte*>(mapped), size});
  // The last seal: our own mapping stays writable, later ones are not.
  const int seals = kFixedSize | (others == Others::kRead ? F_SEAL_FUTURE_WRITE : 0);
  if (::fcntl(memory.fd.get(), F_ADD_SEALS, seals) != 0)
    return Status::system("seal shared memory", errno).with_hint("Linux 5.1 or later is needed");
  return memory;
}

// Kernels before 5.13 took the seal for huge pages and did not keep it.
bool sealed_against_writing(const SharedMemory& memory) {
  void* const mapped =
      ::mmap(nullptr, kHugePage, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd.get(), 0);
  if (mapped == MAP_FAILED) return true;
  ::munmap(mapped, kHugePage);
  return false;
}

}  // namespace

Mapping::~Mapping() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

Result<SharedMemory> create_shared(std::size_t bytes, Others others) {
  if (bytes > SIZE_MAX / 4)
    return Status(Code::kInvalidArgument, fmt::format("share {} bytes: too many", bytes));
  PENSTOCK_ASSIGN_OR_RETURN(SharedMemory memory,
                            create(whole_pages(bytes), 0, MAP_NORESERVE, others));
  const std::span<std::byte> all = memory.mapping.bytes();
  // Where the system allows it.
  if (all.size() >= kHugePage) ::madvise(all.data(), all.size(), MADV_HUGEPAGE);
  return memory;
}

Result<SharedMemory> create_shared_on_huge_pages(std::size_t bytes, Others others) {
  if (bytes > 0 && bytes % kHugePage == 0 && bytes <= SIZE_MAX / 4) {
    // The mapping reserves the pages, or fails where the pool has too few.
    Result<SharedMemory> memory = create(bytes, kHugePages, 0, others);
    if (memory.ok() && pool_keeps_its_word() && take_first_page(memory->mapping.bytes()) &&
        (others != Others::kRead || sealed_against_writing(*memory)))
      return memory;
  }
  return create_shared(bytes, others);
}

Result<Mapping> map_shared(int fd, std::size_t bytes, bool writable) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0) return Status(Code::kProtocol, "a peer's shared memory is not a memfd");
  // Or the peer could shrink it under us, and touching it would end this process.
  if ((seals & kFixedSize) != kFixedSize)
    return Status(Code::kProtocol, "the size of a peer's shared memory is not sealed");
  struct stat facts {};
  if (::fstat(fd, &facts) != 0) return Status::system("look at a peer's shared memory", errno);
  if (bytes == 0 || facts.st_size < 0 || static_cast<std::uint64_t>(facts.st_size) < bytes)
    return Status(Code::kProtocol, "a peer's shared memory is smaller than it says");
  void* const mapped = ::mmap(nullptr, bytes, PROT_READ | (writable ? PROT_WRITE : 0),
                              MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (mapped == MAP_FAILED) return Status::system("map a peer's shared memory", errno);
  if (bytes >= kHugePage) ::madvise(mapped, bytes, MADV_HUGEPAGE);
  return Mapping({static_cast<std::byte*>(mapped), bytes});
}

Result<UniqueFd> read_only(int fd) {
  UniqueFd reopened(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_RDONLY | O_CLOEXEC));
  if (!reopened.valid()) return Status::system("reopen shared memory for reading", errno);
  return reopened;
}

}  // namespace penstock::shm
