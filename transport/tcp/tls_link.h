// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One connection's bytes under TLS (transport/tls/psk.h says which): what send and receive are to
// a bare socket. Where the kernel takes the sending key over (kTLS), sending is its business and
// offloaded() says so. The end of the stream is not announced: frames say what is complete.
// Thread: one at a time.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <sys/uio.h>

#include "transport/tls/psk.h"

namespace penstock::tcp {

// What the links of one device share. Must outlive them. Any thread.
class TlsSetup {
 public:
  struct Options {
    std::uint64_t rekey_bytes = 0;  // a sending key encrypts about so much, then the next one does
    bool offload = false;           // to the kernel, if it can
  };
  static Result<std::unique_ptr<TlsSetup>> create(std::span<const unsigned char> secret,
                                                  const std::string& job, const Options& options);
  const tls::PskContext& psk() const { return *psk_; }
  BIO_METHOD* socket_method() const { return socket_method_.get(); }
  const Options& options() const { return options_; }

 private:
  explicit TlsSetup(const Options& options) : options_(options) {}

  const Options options_;
  std::unique_ptr<tls::PskContext> psk_;
  std::unique_ptr<BIO_METHOD, OpenSslDelete<BIO_meth_free>> socket_method_;
};

class TlsLink {
 public:
  enum class Side : std::uint8_t { kConnecting, kAccepting };
  enum class Progress : std::uint8_t {
    kDone,
    kAgain,     // when the socket has something new
    kStranger,  // accepting: the peer speaks no TLS; nothing was taken from the socket
    kFailed,    // error() says why
  };

  // `fd`, connected, stays the caller's and outlives the link.
  TlsLink(const TlsSetup& setup, int fd, Side side);

  Progress handshake();
  const Status& error() const { return error_; }

  // After the handshake. Both return the bytes moved, or −1 and errno like sendmsg() and readv().
  // After EAGAIN, the bytes offered next start with those offered before.
  ssize_t send(std::span<const iovec> parts);
  ssize_t receive(std::span<const iovec> space);
  // The last receive() left nothing in the socket or here.
  bool drained() const { return drained_; }
  // Bytes that send() did not report are encrypted already.
  bool committed() const { return committed_; }
  bool offloaded() const { return offloaded_; }

 private:
  static constexpr std::size_t kRecordBytes = SSL3_RT_MAX_PLAIN_LENGTH;

  Progress check_peer();
  Progress why_failed(int returned);
  std::span<const std::byte> next_record(std::span<const iovec> parts, std::size_t at,
                                         std::size_t offset);
  ssize_t fault(int returned);

  const TlsSetup& setup_;
  const int fd_;
  const Side side_;
  std::unique_ptr<SSL, OpenSslDelete<SSL_free>> ssl_;  // none until the peer speaks TLS
  std::array<std::byte, kRecordBytes> gathered_;
  std::uint64_t key_bytes_ = 0;  // encrypted with the present key
  bool drained_ = false;
  bool committed_ = false;
  bool offloaded_ = false;
  Status error_;
};

}  // namespace penstock::tcp
