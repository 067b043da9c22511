// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A control connection under TLS (transport/tls/psk.h says which).

#include <memory>
#include <string>

#include "transport/control/secret.h"
#include "transport/control/stream.h"
#include "transport/tls/psk.h"

namespace penstock::control {

// What the connections of one job share. Must outlive them. Thread: one.
class TlsContext {
 public:
  // kInvalidArgument for a job name that is empty or longer than 64 bytes.
  static Result<std::unique_ptr<TlsContext>> create(const Secret& secret, const std::string& job);

  SSL* new_connection(Side side) const;
  BIO_METHOD* socket_method() const { return socket_method_.get(); }

 private:
  TlsContext() = default;

  std::unique_ptr<tls::PskContext> psk_;
  std::unique_ptr<BIO_METHOD, OpenSslDelete<BIO_meth_free>> socket_method_;
};

// The socket below one connection, as OpenSSL's custom BIO sees it: send() without SIGPIPE, and a
// bound on what a peer may make us read before it is known.
struct TlsSocket {
  int fd = -1;
  std::size_t allowance = 0;  // bytes that may still be read
  bool over_allowance = false;
  bool ended = false;  // the peer closed
  int error = 0;       // errno of the failed call
};

class TlsStream final : public Stream {
 public:
  // `handshake_bytes` bounds what is read before the peer is authenticated.
  TlsStream(const TlsContext& context, int fd, Side side, std::size_t handshake_bytes);

  Io handshake() override;
  Io read(std::span<std::byte> to, std::size_t& moved) override;
  Io write(std::span<const std::byte> from, std::size_t& moved) override;
  bool wants_write() const override { return wants_write_; }
  void finish() override;

 private:
  Io wait_for_client_hello();
  Io check_peer();
  Io after_failure(int returned);
  Status why_lost() const;
  Status why_handshake_failed(unsigned long error) const;

  const TlsContext& context_;
  const Side side_;
  TlsSocket socket_;
  std::unique_ptr<SSL, OpenSslDelete<SSL_free>> ssl_;  // none until the peer speaks TLS
  bool authenticated_ = false;
  bool wants_write_ = false;
};

}  // namespace penstock::control
