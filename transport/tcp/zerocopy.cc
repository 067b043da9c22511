// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/tcp/zerocopy.h"

#include <linux/errqueue.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

namespace penstock::tcp {
namespace {

// Pinning pages costs about as much as copying 10 KB (the kernel's msg_zerocopy.rst); well above.
constexpr std::size_t kLeastBytes = std::size_t{64} << 10;
constexpr std::size_t kLeastBytesPerPart = std::size_t{32} << 10;
// So many calls may be on their way before the first answer says whether they were worth it.
constexpr std::uint64_t kProbes = 4;

const sock_extended_err* find_notice(const msghdr& message) {
  for (const cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(const_cast<msghdr*>(&message), const_cast<cmsghdr*>(part))) {
    const bool v4 = part->cmsg_level == SOL_IP && part->cmsg_type == IP_RECVERR;
    const bool v6 = part->cmsg_level == SOL_IPV6 && part->cmsg_type == IPV6_RECVERR;
    if (!v4 && !v6) continue;
    const auto* notice = reinterpret_cast<const sock_extended_err*>(CMSG_DATA(part));
    if (notice->ee_origin == SO_EE_ORIGIN_ZEROCOPY && notice->ee_errno == 0) return notice;
  }
  return nullptr;
}

}  // namespace

bool ZerocopyLog::wants(std::size_t bytes, std::size_t parts) const {
  const std::uint64_t outstanding = sent_ - released_;
  if (mode_ == Zerocopy::kOff || outstanding == kMostCalls) return false;
  if (mode_ == Zerocopy::kOn) return true;
  return bytes >= kLeastBytes && bytes >= parts * kLeastBytesPerPart &&
         (proven_ || outstanding < kProbes);
}

void ZerocopyLog::collect(int fd, TcpCounters& counters) {
  while (outstanding()) {
    alignas(cmsghdr) char control[128];
    msghdr message{};
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t got = ::recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return;
    const sock_extended_err* notice = find_notice(message);
    if (notice == nullptr) continue;
    const bool copied = (notice->ee_code & SO_EE_CODE_ZEROCOPY_COPIED) != 0;
    if (copied) counters.zerocopy_copied.add(notice->ee_data - notice->ee_info + 1U);
    over(notice->ee_info, notice->ee_data, copied);
  }
}

void ZerocopyLog::over(std::uint32_t first, std::uint32_t last, bool copied) {
  proven_ = proven_ || !copied;
  if (copied && mode_ == Zerocopy::kAuto) stop();
  // Calls count from 1 here and from 0, in 32 bits, there.
  const std::uint32_t begin = first - static_cast<std::uint32_t>(released_);
  const std::uint32_t end = last - static_cast<std::uint32_t>(released_);
  const std::uint64_t outstanding = sent_ - released_;
  if (begin > end || end >= outstanding) return;
  for (std::uint64_t call = released_ + begin; call <= released_ + end; ++call)
    over_.set(call % kMostCalls);
  for (; released_ < sent_ && over_.test(released_ % kMostCalls); ++released_)
    over_.reset(released_ % kMostCalls);
}

}  // namespace penstock::tcp
