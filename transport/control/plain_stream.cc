// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/control/plain_stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace penstock::control {
namespace {

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

Status connection_error(int error) {
  return Status(Code::kConnectionLost, "control connection broke").with_system(error);
}

// The first byte of a TLS alert, and of any handshake record.
bool is_tls(std::byte first) { return first == std::byte{0x15} || first == std::byte{0x16}; }

}  // namespace

Io PlainStream::handshake() {
  while (sent_ < kFrameHeaderBytes) {
    std::size_t moved = 0;
    if (const Io io = write(std::span(hello_).subspan(sent_), moved); io != Io::kOk) return io;
    sent_ += moved;
  }
  while (received_ < kFrameHeaderBytes) {
    std::array<std::byte, kFrameHeaderBytes> buffer{};
    std::size_t moved = 0;
    const auto part = std::span(buffer).first(kFrameHeaderBytes - received_);
    if (const Io io = read(part, moved); io != Io::kOk) return io;
    if (received_ == 0 && is_tls(buffer[0]))
      return lost(Status(Code::kUnauthenticated,
                         "the peer requires the job secret and this side runs without one")
                      .with_hint("give it by --secret-file or PENSTOCK_SECRET_FILE, and drop "
                                 "--insecure"));
    if (!std::equal(part.begin(), part.begin() + static_cast<std::ptrdiff_t>(moved),
                    hello_.begin() + static_cast<std::ptrdiff_t>(received_)))
      return lost({Code::kProtocol, "the peer is not a Penstock control hub of this version"});
    received_ += moved;
  }
  return Io::kOk;
}

Io PlainStream::read(std::span<std::byte> to, std::size_t& moved) {
  const ssize_t got = ::recv(fd_, to.data(), to.size(), 0);
  if (got < 0 && would_block(errno)) return Io::kBlocked;
  if (got < 0) return lost(connection_error(errno));
  if (got == 0) return lost({Code::kConnectionLost, "the peer closed the control connection"});
  moved = static_cast<std::size_t>(got);
  return Io::kOk;
}

Io PlainStream::write(std::span<const std::byte> from, std::size_t& moved) {
  const ssize_t put = ::send(fd_, from.data(), from.size(), MSG_NOSIGNAL);
  if (put < 0 && would_block(errno)) return Io::kBlocked;
  if (put < 0) return lost(connection_error(errno));
  moved = static_cast<std::size_t>(put);
  return Io::kOk;
}

}  // namespace penstock::control
