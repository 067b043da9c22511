// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/control/tls_stream.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

namespace penstock::control {
namespace {

// A fatal handshake_failure alert (RFC 8446 §6): what a peer without TLS gets, so that it can say
// why it was turned away.
constexpr std::array<unsigned char, 7> kPlainRefusal = {0x15, 3, 3, 0, 2, 2, 40};

int clamp_to_int(std::size_t size) {
  return static_cast<int>(std::min<std::size_t>(size, INT_MAX));
}

const char* reason_text(unsigned long error) {
  const char* text = ERR_reason_error_string(error);
  return text == nullptr ? "unknown reason" : text;
}

}  // namespace

TlsStream::TlsStream(const TlsContext& context, int fd, Side side, std::size_t handshake_bytes)
    : context_(context), side_(side), socket_{.fd = fd, .allowance = handshake_bytes} {}

Io TlsStream::handshake() {
  if (ssl_ == nullptr) {
    if (side_ == Side::kAccepting)
      if (const Io io = wait_for_client_hello(); io != Io::kOk) return io;
    ssl_.reset(context_.new_connection(side_));
    BIO* bio = BIO_new(context_.socket_method());
    CHECK(bio != nullptr, "no memory for a TLS connection");
    BIO_set_data(bio, &socket_);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl_.get(), bio, bio);
  }
  ERR_clear_error();
  const int returned = SSL_do_handshake(ssl_.get());
  wants_write_ = SSL_want_write(ssl_.get());
  return returned == 1 ? check_peer() : after_failure(returned);
}

// Garbage is turned away here, before it costs a TLS connection's memory.
Io TlsStream::wait_for_client_hello() {
  unsigned char first = 0;
  const ssize_t got = ::recv(socket_.fd, &first, 1, MSG_PEEK);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return Io::kBlocked;
  if (got < 0) socket_.error = errno;
  if (got == 0) socket_.ended = true;
  if (got <= 0) return lost(why_lost());
  if (first == tls::kHandshakeRecord) return Io::kOk;
  (void)::send(socket_.fd, kPlainRefusal.data(), kPlainRefusal.size(), MSG_NOSIGNAL);
  return lost({Code::kUnauthenticated, "the peer does not speak TLS, so it has no job secret"});
}

Io TlsStream::check_peer() {
  if (!tls::peer_has_key(ssl_.get()))
    return lost(Status(Code::kUnauthenticated, "the peer did not prove that it has the job secret")
                    .with_hint(tls::kSecretHint));
  authenticated_ = true;
  socket_.allowance = SIZE_MAX;
  return Io::kOk;
}

Io TlsStream::read(std::span<std::byte> to, std::size_t& moved) {
  ERR_clear_error();
  const int got = SSL_read(ssl_.get(), to.data(), clamp_to_int(to.size()));
  wants_write_ = SSL_want_write(ssl_.get());
  if (got <= 0) return after_failure(got);
  moved = static_cast<std::size_t>(got);
  return Io::kOk;
}

Io TlsStream::write(std::span<const std::byte> from, std::size_t& moved) {
  ERR_clear_error();
  const int put = SSL_write(ssl_.get(), from.data(), clamp_to_int(from.size()));
  if (put <= 0) return after_failure(put);
  moved = static_cast<std::size_t>(put);
  return Io::kOk;
}

void TlsStream::finish() {
  if (!authenticated_ || !error().ok()) return;
  ERR_clear_error();
  (void)SSL_shutdown(ssl_.get());
}

Io TlsStream::after_failure(int returned) {
  const int kind = SSL_get_error(ssl_.get(), returned);
  if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) return Io::kBlocked;
  if (kind == SSL_ERROR_ZERO_RETURN)
    return lost({Code::kConnectionLost, "the peer closed the control connection"});
  return lost(why_lost());
}

Status TlsStream::why_lost() const {
  const char* when = authenticated_ ? "" : " during the handshake";
  if (socket_.over_allowance)
    return {Code::kProtocol, "the peer sent too much before it was authenticated"};
  if (socket_.error != 0)
    return Status(Code::kConnectionLost, fmt::format("control connection broke{}", when))
        .with_system(socket_.error);
  if (socket_.ended)
    return {Code::kConnectionLost,
            fmt::format("the peer's end of the control connection vanished{}", when)};
  const unsigned long error = ERR_peek_error();
  if (authenticated_) return {Code::kProtocol, fmt::format("TLS: {}", reason_text(error))};
  return why_handshake_failed(error);
}

Status TlsStream::why_handshake_failed(unsigned long error) const {
  const int reason = ERR_GET_REASON(error);
  if (side_ == Side::kConnecting && tls::is_refusal(error))
    return Status(Code::kUnauthenticated,
                  "the peer refused this process: the job secret or job name differs")
        .with_hint(tls::kSecretHint);
  if (side_ == Side::kConnecting && reason == SSL_R_WRONG_VERSION_NUMBER)
    return Status(Code::kUnauthenticated,
                  "the peer does not speak TLS: it runs without the job secret (insecure), or is "
                  "no Penstock process")
        .with_hint(tls::kSecretHint);
  return {Code::kUnauthenticated, fmt::format("TLS handshake: {}", reason_text(error))};
}

}  // namespace penstock::control
