// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "bindings/cli/host_findings.h"

namespace penstock::cli {
namespace {

// What a TCP stream over a fast network with some delay keeps under way: 25 Gbit/s times 1 ms.
constexpr std::uint64_t kEnoughSocketBytes = std::uint64_t{4} << 20;

std::string release(const HostTree& tree) {
  return tree.text("/proc/sys/kernel/osrelease").value_or("unknown");
}

bool is_in_list(const std::string& text, const std::string& suffix) {
  // "kernel/drivers/infiniband/core/ib_uverbs.ko", one a line; '-' and '_' mean the same.
  for (std::string& word : split_words(text)) {
    std::replace(word.begin(), word.end(), '-', '_');
    if (word.ends_with("/" + suffix)) return true;
  }
  return false;
}

struct Module {
  const char* name;
  const char* purpose;
  const char* trace;  // a path that is only there with it, however it got into the kernel; or null
};
constexpr std::array kModules{
    Module{"ib_uverbs", "RDMA from programs", "/sys/class/infiniband_verbs/abi_version"},
    Module{"rdma_ucm", "RDMA connections", "/sys/class/misc/rdma_cm"},
    Module{"rdma_rxe", "soft-RoCE: RDMA without an RDMA card", nullptr},
    Module{"nvidia_peermem", "GPU memory for RDMA cards without dma-buf", nullptr},
};

}  // namespace

bool has_module(const HostTree& tree, const std::string& name) {
  if (tree.exists("/sys/module/" + name)) return true;
  for (const Module& module : kModules)
    if (module.name == name && module.trace != nullptr && tree.exists(module.trace)) return true;
  // rxe's devices say what they are on top of; no card has a "parent" there.
  if (name == "rdma_rxe")
    for (const std::string& device : tree.names("/sys/class/infiniband"))
      if (tree.exists("/sys/class/infiniband/" + device + "/parent")) return true;
  const auto builtin = tree.text("/lib/modules/" + release(tree) + "/modules.builtin");
  return builtin && is_in_list(*builtin, name + ".ko");
}

Findings check_kernel(const HostTree& tree) {
  return {{"kernel.release", Level::kOk, "Linux " + release(tree), ""}};
}

Findings check_fork(const HostTree& tree) {
  std::string variables =
      fmt::format("\n{}", tree.text("/proc/self/environ").value_or(std::string()));
  std::replace(variables.begin(), variables.end(), '\0', '\n');
  for (const char* name : {"IBV_FORK_SAFE", "RDMAV_FORK_SAFE"})
    if (variables.find(fmt::format("\n{}=", name)) != std::string::npos)
      return {
          {"fork", Level::kNote,
           fmt::format("{} is set: child processes crash when they touch registered memory", name),
           fmt::format("unset {}; Linux 5.12 and newer need no help (docs/fork.md)", name)}};
  return {};
}

Findings check_modules(const HostTree& tree) {
  const bool rdma_hardware = !tree.names("/sys/class/infiniband").empty();
  const bool nvidia = tree.exists("/proc/driver/nvidia/version");
  Findings findings;
  for (const Module& module : kModules) {
    const std::string id = fmt::format("kernel.{}", module.name);
    const std::string purpose = fmt::format("{} ({})", module.name, module.purpose);
    if (has_module(tree, module.name)) {
      findings.push_back({id, Level::kOk, purpose + " is in the kernel", ""});
      continue;
    }
    // Devices without what programs reach them by are broken; anything else may be meant so.
    const bool core = module.trace != nullptr;
    const bool peermem = std::string_view(module.name) == "nvidia_peermem";
    if (peermem && !nvidia) continue;
    findings.push_back({id, core && rdma_hardware ? Level::kProblem : Level::kNote,
                        purpose + " is not in the kernel",
                        fmt::format("modprobe {}; for good: its name in /etc/modules-load.d/"
                                    "penstock.conf",
                                    module.name)});
  }
  return findings;
}

Findings check_tcp(const HostTree& tree) {
  Findings findings;
  for (const char* name : {"wmem_max", "rmem_max"}) {
    const std::string id = fmt::format("tcp.{}", name);
    const auto bytes = tree.number(fmt::format("/proc/sys/net/core/{}", name));
    if (!bytes) {
      findings.push_back(
          {id, Level::kNote, fmt::format("net.core.{} cannot be read from here", name), ""});
      continue;
    }
    const bool enough = *bytes >= kEnoughSocketBytes;
    findings.push_back(
        {id, enough ? Level::kOk : Level::kNote,
         fmt::format("net.core.{} is {} KiB{}", name, *bytes >> 10U,
                     enough ? "" : "; streams over fast networks want 4 MiB"),
         enough ? "" : fmt::format("sysctl net.core.{}={}", name, kEnoughSocketBytes)});
  }
  for (const char* name : {"tcp_wmem", "tcp_rmem"}) {
    const auto line = tree.text(fmt::format("/proc/sys/net/ipv4/{}", name));
    const std::vector<std::string> words = split_words(line.value_or(std::string()));
    if (words.size() != 3) continue;
    const std::uint64_t most = parse_number(words[2]).value_or(0);
    const bool enough = most >= kEnoughSocketBytes;
    findings.push_back({fmt::format("tcp.{}", name), enough ? Level::kOk : Level::kNote,
                        fmt::format("net.ipv4.{} grows to {} KiB", name, most >> 10U),
                        enough ? ""
                               : fmt::format("sysctl net.ipv4.{}=\"{} {} {}\"", name, words[0],
                                             words[1], kEnoughSocketBytes)});
  }
  const std::vector<std::string> protocols =
      split_words(tree.text("/proc/sys/net/ipv4/tcp_available_ulp").value_or(std::string()));
  const bool ktls = has_module(tree, "tls") ||
                    std::find(protocols.begin(), protocols.end(), "tls") != protocols.end();
  findings.push_back({"tcp.ktls", ktls ? Level::kOk : Level::kNote,
                      ktls ? "the kernel encrypts TCP streams itself (kTLS)"
                           : "the kernel does not encrypt TCP streams itself (kTLS)",
                      ktls ? "" : "modprobe tls, if streams are encrypted at all"});
  return findings;
}

Findings check_container(const HostTree& tree) {
  const bool devices = !tree.names("/sys/class/infiniband").empty();
  const bool nodes = tree.exists("/dev/infiniband");
  const bool container = tree.exists("/.dockerenv") || tree.exists("/run/.containerenv");
  if (!devices || nodes) {
    if (!container) return {};
    return {{"container", Level::kOk, "this is a container", ""}};
  }
  return {{"container", Level::kProblem,
           "the kernel has RDMA devices, but there is no /dev/infiniband here",
           container ? "docker run --device=/dev/infiniband --cap-add=IPC_LOCK --ulimit memlock=-1 "
                       "--network=host; Kubernetes: the RDMA device plugin"
                     : "modprobe ib_uverbs rdma_ucm, and udev's rules of the package rdma-core"}};
}

}  // namespace penstock::cli
