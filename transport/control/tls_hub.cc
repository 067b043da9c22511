// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/control/tls_hub.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>

#include "transport/base/log.h"
#include "transport/control/hub.h"
#include "transport/control/sockets.h"

namespace penstock {

Result<std::unique_ptr<ControlHub>> create_tls_hub(const TlsHubOptions& options,
                                                   const Clock& clock) {
  if (options.insecure && !options.secret.empty())
    return Status(Code::kInvalidArgument, "a control hub was asked to be insecure, with a secret")
        .with_hint("drop --insecure, or unset PENSTOCK_SECRET_FILE and --secret-file");
  if (!options.insecure && options.secret.empty())
    return Status(Code::kUnauthenticated, "control connections need the job secret")
        .with_hint(
            "name its file by PENSTOCK_SECRET_FILE or --secret-file (make one with: umask "
            "077; openssl rand -hex 32 > FILE), or run --insecure on a trusted network");
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  UniqueFd wake(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!epoll.valid() || !wake.valid()) return Status::system("make a control hub", errno);
  PENSTOCK_RETURN_IF_ERROR(
      control::watch(epoll.get(), EPOLL_CTL_ADD, wake.get(), EPOLLIN, control::kWakeSerial));
  control::ChannelContext context{.epoll = epoll.get(),
                                  .tls = nullptr,
                                  .user_timeout_ns = options.user_timeout_ns,
                                  .handshake_bytes = options.handshake_bytes};
  if (options.insecure) {
    PENSTOCK_LOG_WARN(
        "insecure: control connections of this process are neither authenticated nor encrypted");
  } else {
    PENSTOCK_ASSIGN_OR_RETURN(context.tls,
                              control::TlsContext::create(options.secret, options.job));
  }
  return std::unique_ptr<ControlHub>(std::make_unique<control::TlsHub>(
      std::move(context),
      control::HubLimits{std::max<std::size_t>(options.max_unauthenticated, 1),
                         options.handshake_ns},
      std::move(epoll), std::move(wake), clock));
}

}  // namespace penstock
