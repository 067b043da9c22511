// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/control/secret.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "transport/base/random.h"
#include "transport/base/unique_fd.h"

namespace penstock {
namespace {

// One more than the longest secret with "\r\n" needs, to notice a file that is too long.
constexpr std::size_t kPageBytes = kMaxSecretBytes + 3;

// From the start where there is one, because forked readers of one descriptor share its position.
ssize_t read_at(int fd, unsigned char* to, std::size_t count, std::size_t offset) {
  const ssize_t got = ::pread(fd, to, count, static_cast<off_t>(offset));
  return got < 0 && errno == ESPIPE ? ::read(fd, to, count) : got;
}

Status write_all(int fd, std::span<const unsigned char> bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return Status::system(fmt::format("write secret file {}", path), errno);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
  return {};
}

Status check_mode(int fd, const std::string& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0)
    return Status::system(fmt::format("look at secret file {}", path), errno);
  if (!S_ISREG(info.st_mode))
    return {Code::kInvalidArgument, fmt::format("secret file {} is not a regular file", path)};
  if ((info.st_mode & 077) != 0)
    return Status(Code::kInvalidArgument,
                  fmt::format("secret file {} can be used by others than its owner (mode {:04o})",
                              path, info.st_mode & 07777))
        .with_hint(fmt::format("chmod 600 {}", path));
  return {};
}

}  // namespace

Secret::Secret(Secret&& other) noexcept
    : page_(std::exchange(other.page_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this == &other) return *this;
  clear();
  page_ = std::exchange(other.page_, nullptr);
  size_ = std::exchange(other.size_, 0);
  return *this;
}

Secret::~Secret() { clear(); }

void Secret::allocate() {
  void* page =
      ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(page != MAP_FAILED, "no memory for a secret");
  page_ = static_cast<unsigned char*>(page);
  // A kernel without this advice only loses the omission from core dumps.
  (void)::madvise(page, kPageBytes, MADV_DONTDUMP);
}

void Secret::clear() {
  if (page_ == nullptr) return;
  OPENSSL_cleanse(page_, kPageBytes);
  ::munmap(page_, kPageBytes);
  page_ = nullptr;
  size_ = 0;
}

Secret Secret::random() {
  std::array<unsigned char, 32> raw{};
  random_bytes(raw);
  Secret secret;
  secret.allocate();
  for (const unsigned char byte : raw) {
    secret.page_[secret.size_++] = static_cast<unsigned char>("0123456789abcdef"[byte >> 4]);
    secret.page_[secret.size_++] = static_cast<unsigned char>("0123456789abcdef"[byte & 15]);
  }
  OPENSSL_cleanse(raw.data(), raw.size());
  return secret;
}

Result<Secret> Secret::from_file(const std::string& path) {
  // O_NONBLOCK: opening a FIFO by mistake must not wait for its writer.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid() && errno == ENOENT)
    return Status(Code::kNotFound, fmt::format("secret file {} does not exist", path))
        .with_hint(fmt::format("make one with: (umask 077; openssl rand -hex 32 > {})", path));
  if (!fd.valid()) return Status::system(fmt::format("open secret file {}", path), errno);
  PENSTOCK_RETURN_IF_ERROR(check_mode(fd.get(), path));
  return read_all(fd.get(), fmt::format("secret file {}", path));
}

Result<Secret> Secret::from_environment_file() {
  const char* path = std::getenv(kSecretFileVariable);
  if (path == nullptr || *path == '\0')
    return Status(Code::kNotFound, fmt::format("{} is not set", kSecretFileVariable))
        .with_hint("it names the file with the job secret; or give --secret-file");
  return from_file(path);
}

Result<Secret> Secret::from_fd(int fd) {
  return read_all(fd, fmt::format("secret from descriptor {}", fd));
}

Result<Secret> Secret::read_all(int fd, const std::string& name) {
  Secret secret;
  secret.allocate();
  while (secret.size_ < kPageBytes) {
    const ssize_t got =
        read_at(fd, secret.page_ + secret.size_, kPageBytes - secret.size_, secret.size_);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Status::system(fmt::format("read {}", name), errno);
    if (got == 0) break;
    secret.size_ += static_cast<std::size_t>(got);
  }
  const auto line_end = [](unsigned char c) { return c == '\n' || c == '\r'; };
  while (secret.size_ > 0 && line_end(secret.page_[secret.size_ - 1])) --secret.size_;
  if (secret.size_ < kMinSecretBytes || secret.size_ > kMaxSecretBytes)
    return Status(Code::kInvalidArgument,
                  fmt::format("{} is too {}: from {} to {} bytes are accepted", name,
                              secret.size_ < kMinSecretBytes ? "short" : "long", kMinSecretBytes,
                              kMaxSecretBytes))
        .with_hint("openssl rand -hex 32 makes a good one");
  return secret;
}

Status Secret::write_file(const std::string& path) const {
  CHECK(!empty(), "an empty secret is not written");
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid() && errno == EEXIST)
    return {Code::kAlreadyExists, fmt::format("secret file {} exists already", path)};
  if (!fd.valid()) return Status::system(fmt::format("create secret file {}", path), errno);
  PENSTOCK_RETURN_IF_ERROR(write_all(fd.get(), bytes(), path));
  return write_all(fd.get(), std::array<unsigned char, 1>{'\n'}, path);
}

Secret Secret::copy() const {
  Secret other;
  if (empty()) return other;
  other.allocate();
  std::memcpy(other.page_, page_, size_);
  other.size_ = size_;
  return other;
}

}  // namespace penstock
