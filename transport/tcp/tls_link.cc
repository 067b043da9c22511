// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/tcp/tls_link.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "transport/base/check.h"

namespace penstock::tcp {
namespace {

constexpr std::string_view kLabel = "penstock data tls13 psk 1";
// Read from the socket at once: four records and what frames them.
constexpr std::size_t kReadBytes = 4 * (SSL3_RT_MAX_PLAIN_LENGTH + 256);

// OpenSSL's own socket would raise SIGPIPE when the peer is gone.
int write_quietly(BIO* bio, const char* from, int size) {
  if (BIO_get_ktls_send(bio)) return BIO_meth_get_write(BIO_s_socket())(bio, from, size);
  int fd = -1;
  BIO_get_fd(bio, &fd);
  BIO_clear_retry_flags(bio);
  const ssize_t put = ::send(fd, from, static_cast<std::size_t>(size), MSG_NOSIGNAL);
  if (put < 0 && BIO_sock_should_retry(-1)) BIO_set_retry_write(bio);
  return static_cast<int>(put);
}

// OpenSSL's socket, which knows how to hand keys to the kernel, but for write_quietly().
BIO_METHOD* make_socket_method() {
  const BIO_METHOD* model = BIO_s_socket();
  BIO_METHOD* method = BIO_meth_new(BIO_TYPE_SOCKET, "penstock data socket");
  if (method == nullptr || BIO_meth_set_write(method, write_quietly) != 1 ||
      BIO_meth_set_read(method, BIO_meth_get_read(model)) != 1 ||
      BIO_meth_set_puts(method, BIO_meth_get_puts(model)) != 1 ||
      BIO_meth_set_ctrl(method, BIO_meth_get_ctrl(model)) != 1 ||
      BIO_meth_set_create(method, BIO_meth_get_create(model)) != 1 ||
      BIO_meth_set_destroy(method, BIO_meth_get_destroy(model)) != 1) {
    BIO_meth_free(method);
    return nullptr;
  }
  return method;
}

ssize_t failed_with(int error) {
  errno = error;
  return -1;
}

}  // namespace

Result<std::unique_ptr<TlsSetup>> TlsSetup::create(std::span<const unsigned char> secret,
                                                   const std::string& job, const Options& options) {
  std::unique_ptr<TlsSetup> made(new TlsSetup(options));
  PENSTOCK_ASSIGN_OR_RETURN(made->psk_, tls::PskContext::create(secret, job, kLabel));
  made->socket_method_.reset(make_socket_method());
  if (made->socket_method_ == nullptr) return tls::openssl_error("set up the TLS socket");
  if (options.offload) SSL_CTX_set_options(made->psk_->get(), SSL_OP_ENABLE_KTLS);
  SSL_CTX_set_read_ahead(made->psk_->get(), 1);
  SSL_CTX_set_default_read_buffer_len(made->psk_->get(), kReadBytes);
  return made;
}

TlsLink::TlsLink(const TlsSetup& setup, int fd, Side side) : setup_(setup), fd_(fd), side_(side) {}

TlsLink::Progress TlsLink::handshake() {
  if (ssl_ == nullptr) {
    if (side_ == Side::kAccepting) {  // garbage is turned away before it costs memory
      unsigned char first = 0;
      const ssize_t got = ::recv(fd_, &first, 1, MSG_PEEK | MSG_DONTWAIT);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) return Progress::kAgain;
      if (got != 1 || first != tls::kHandshakeRecord) return Progress::kStranger;
    }
    // Best effort, before the keys are there: without it the kernel takes none.
    if (setup_.options().offload)
      (void)::setsockopt(fd_, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls");
    ssl_.reset(side_ == Side::kAccepting ? setup_.psk().new_accepting()
                                         : setup_.psk().new_connecting());
    BIO* bio = BIO_new(setup_.socket_method());
    CHECK(bio != nullptr, "no memory for a TLS connection");
    BIO_set_fd(bio, fd_, BIO_NOCLOSE);
    SSL_set_bio(ssl_.get(), bio, bio);
  }
  ERR_clear_error();
  const int returned = SSL_do_handshake(ssl_.get());
  return returned == 1 ? check_peer() : why_failed(returned);
}

TlsLink::Progress TlsLink::check_peer() {
  offloaded_ = BIO_get_ktls_send(SSL_get_wbio(ssl_.get()));
  if (tls::peer_has_key(ssl_.get())) return Progress::kDone;
  error_ = Status(Code::kUnauthenticated, "the peer did not prove that it has the job secret")
               .with_hint(tls::kSecretHint);
  return Progress::kFailed;
}

TlsLink::Progress TlsLink::why_failed(int returned) {
  const int system = errno;
  const int kind = SSL_get_error(ssl_.get(), returned);
  if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) return Progress::kAgain;
  const unsigned long error = ERR_peek_error();
  if (tls::is_refusal(error)) {
    error_ = Status(Code::kUnauthenticated,
                    "the peer refused this process: the job secret or job name differs")
                 .with_hint(tls::kSecretHint);
  } else if (kind == SSL_ERROR_SYSCALL ||
             ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
    error_ = Status(Code::kConnectionLost, "the peer hung up during the TLS handshake")
                 .with_hint("do both sides encrypt (TcpOptions::encrypt)?");
    if (kind == SSL_ERROR_SYSCALL && system != 0) error_ = std::move(error_).with_system(system);
  } else {
    const char* reason = ERR_reason_error_string(error);
    error_ = Status(Code::kUnauthenticated,
                    fmt::format("TLS handshake: {}", reason == nullptr ? "unknown reason" : reason))
                 .with_hint("do both sides encrypt (TcpOptions::encrypt)?");
  }
  return Progress::kFailed;
}

// A long part is encrypted from where it lies, short ones are gathered first.
std::span<const std::byte> TlsLink::next_record(std::span<const iovec> parts, std::size_t at,
                                                std::size_t offset) {
  const auto rest_of = [&](std::size_t part) {
    const std::size_t skip = part == at ? offset : 0;
    return std::span(static_cast<const std::byte*>(parts[part].iov_base) + skip,
                     parts[part].iov_len - skip);
  };
  if (const auto rest = rest_of(at); rest.size() >= kRecordBytes) return rest.first(kRecordBytes);
  std::size_t filled = 0;
  for (std::size_t part = at; part < parts.size() && filled < kRecordBytes; ++part) {
    const auto rest = rest_of(part);
    const std::size_t taken = std::min(rest.size(), kRecordBytes - filled);
    std::memcpy(gathered_.data() + filled, rest.data(), taken);
    filled += taken;
  }
  return std::span(gathered_).first(filled);
}

ssize_t TlsLink::send(std::span<const iovec> parts) {
  std::size_t at = 0, offset = 0, sent = 0;
  while (at < parts.size()) {
    const auto record = next_record(parts, at, offset);
    ERR_clear_error();
    const int put = SSL_write(ssl_.get(), record.data(), static_cast<int>(record.size()));
    committed_ = put <= 0;
    if (put <= 0) return sent > 0 ? static_cast<ssize_t>(sent) : fault(put);
    sent += static_cast<std::size_t>(put);
    offset += static_cast<std::size_t>(put);
    for (; at < parts.size() && offset >= parts[at].iov_len; ++at) offset -= parts[at].iov_len;
    key_bytes_ += static_cast<std::size_t>(put);
    if (key_bytes_ < setup_.options().rekey_bytes) continue;
    // Leaves with the next record.
    CHECK(SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED) == 1);
    key_bytes_ = 0;
  }
  return static_cast<ssize_t>(sent);
}

ssize_t TlsLink::receive(std::span<const iovec> space) {
  std::size_t received = 0;
  drained_ = false;
  for (const iovec& part : space) {
    for (std::size_t offset = 0; offset < part.iov_len;) {
      ERR_clear_error();
      const std::size_t room = std::min<std::size_t>(part.iov_len - offset, INT_MAX);
      const int got = SSL_read(ssl_.get(), static_cast<std::byte*>(part.iov_base) + offset,
                               static_cast<int>(room));
      if (got <= 0) {
        const ssize_t why = fault(got);
        drained_ = why < 0 && errno == EAGAIN;
        return received > 0 ? static_cast<ssize_t>(received) : why;
      }
      offset += static_cast<std::size_t>(got);
      received += static_cast<std::size_t>(got);
    }
  }
  return static_cast<ssize_t>(received);
}

// What a failed SSL_read or SSL_write is in terms of sockets. Comes out the same when asked again.
ssize_t TlsLink::fault(int returned) {
  const int system = errno;
  if (!error_.ok()) return failed_with(EPROTO);  // OpenSSL says why only once
  const int kind = SSL_get_error(ssl_.get(), returned);
  if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) return failed_with(EAGAIN);
  if (kind == SSL_ERROR_ZERO_RETURN) return 0;
  if (kind == SSL_ERROR_SYSCALL) return system == 0 ? 0 : failed_with(system);
  const unsigned long error = ERR_peek_error();
  if (ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING) return 0;
  const char* reason = ERR_reason_error_string(error);
  error_ = Status(Code::kProtocol,
                  fmt::format("TLS: {}", reason == nullptr ? "unknown reason" : reason));
  return failed_with(EPROTO);
}

}  // namespace penstock::tcp
