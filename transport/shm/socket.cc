// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "transport/base/random.h"

namespace penstock::shm {
namespace {

constexpr std::size_t kMaxName = 64;

bool plain(std::string_view text) {
  return !text.empty() && text.size() <= kMaxName &&
         text.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyz-") == std::string_view::npos;
}

struct UnixAddress {
  explicit UnixAddress(const std::string& name) {
    storage.sun_family = AF_UNIX;
    name.copy(storage.sun_path + 1, kMaxName);  // a leading zero: the abstract namespace
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr_un storage{};
  socklen_t length;
};

UniqueFd unix_socket() {
  return UniqueFd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

// Takes every descriptor out of the control data, so that none leaks; more than expected is false.
bool take_fds(msghdr& header, Parcel& parcel) {
  bool expected = (header.msg_flags & MSG_CTRUNC) == 0;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int raw = -1;
      std::memcpy(&raw, CMSG_DATA(part) + i * sizeof(int), sizeof raw);
      UniqueFd fd(raw);
      if (parcel.fd_count < kMaxFds)
        parcel.fds[parcel.fd_count++] = std::move(fd);
      else
        expected = false;
    }
  }
  return expected;
}

}  // namespace

Result<Address> parse_address(const std::string& text) {
  const std::size_t middle = text.find(':', 4);
  if (text.rfind("shm:", 0) == 0 && middle != std::string::npos) {
    Address address{text.substr(4, middle - 4), text.substr(middle + 1)};
    if (plain(address.host) && plain(address.name)) return address;
  }
  return Status(Code::kInvalidArgument,
                fmt::format("'{}' is not the address of a shm device", text))
      .with_hint("as in shm:<host>:<name>");
}

std::string to_text(const Address& address) {
  return fmt::format("shm:{}:{}", address.host, address.name);
}

Result<std::string> this_host() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot;
  struct stat space {};
  if (!std::getline(file, boot) || ::stat("/proc/self/ns/net", &space) != 0)
    return Status(Code::kUnsupported, "tell this host from others: /proc is not readable");
  std::uint64_t hash = SeededRandom::mix(space.st_ino);
  for (const char letter : boot)
    hash = SeededRandom::mix(hash ^ static_cast<unsigned char>(letter));
  return fmt::format("{:016x}", hash);
}

Result<UniqueFd> listen_at(const std::string& name) {
  UniqueFd fd = unix_socket();
  if (!fd.valid()) return Status::system("create a unix socket", errno);
  const UnixAddress address(name);
  if (::bind(fd.get(), address.get(), address.length) != 0)
    return Status::system(fmt::format("name a unix socket {}", name), errno);
  if (::listen(fd.get(), SOMAXCONN) != 0) return Status::system("listen on a unix socket", errno);
  return fd;
}

Result<UniqueFd> connect_to(const std::string& name) {
  UniqueFd fd = unix_socket();
  if (!fd.valid()) return Status::system("create a unix socket", errno);
  const UnixAddress address(name);
  if (::connect(fd.get(), address.get(), address.length) == 0) return fd;
  if (errno == EAGAIN || errno == EINTR) return UniqueFd();
  return Status(Code::kConnectionLost, "connect")
      .with_system(errno)
      .with_hint("is the peer's device still open at this address?");
}

UniqueFd accept_one(int listener) {
  return UniqueFd(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

bool same_user(int fd) {
  ucred peer{};
  socklen_t length = sizeof peer;
  return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.uid == ::geteuid();
}

bool is_bell(int fd) {
  std::array<char, 64> target{};
  const ssize_t got =
      ::readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), target.data(), target.size() - 1);
  const int flags = ::fcntl(fd, F_GETFL);
  return got > 0 && std::string_view(target.data()) == "anon_inode:[eventfd]" && flags >= 0 &&
         (flags & O_NONBLOCK) != 0;
}

int send_message(int fd, const Message& message, std::span<const int> fds) {
  iovec part{const_cast<Message*>(&message), sizeof message};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* const rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  }
  while (::sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
    if (errno != EINTR) return errno;
  return 0;
}

Heard receive(int fd, Parcel& parcel) {
  parcel = {};
  iovec part{&parcel.message, sizeof parcel.message};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t got = ::recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  // Said once, ahead of what the peer had sent before it went.
  if (got < 0 && errno == ECONNRESET) got = ::recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) return errno == EAGAIN || errno == EINTR ? Heard::kNothing : Heard::kHangUp;
  if (got == 0) return Heard::kHangUp;
  const bool expected = take_fds(header, parcel);
  const Message& message = parcel.message;
  if (!expected || got != sizeof message || (header.msg_flags & MSG_TRUNC) != 0 ||
      message.magic != kMagic || message.kind > MessageKind::kFault || message.code > Code::kSystem)
    return Heard::kGarbage;
  return Heard::kMessage;
}

}  // namespace penstock::shm
