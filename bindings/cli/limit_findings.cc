// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <map>

#include "bindings/cli/host_findings.h"

namespace penstock::cli {
namespace {

// Registered memory is locked memory; less than this does not hold one model's buffers.
constexpr std::uint64_t kEnoughLockedBytes = std::uint64_t{8} << 30;
// A connection to each peer and lane, and as many again for control; beyond 1024 in large jobs.
constexpr std::uint64_t kEnoughFiles = 4096;

struct Limit {
  std::string soft, hard;  // "unlimited" or digits
};

std::optional<Limit> limit(const HostTree& tree, const std::string& name) {
  const std::optional<std::string> line = tree.line_after("/proc/self/limits", name);
  if (!line) return std::nullopt;
  const std::vector<std::string> words = split_words(*line);
  if (words.size() < 2) return std::nullopt;
  return Limit{words[0], words[1]};
}

// CAP_IPC_LOCK in the first user namespace lifts the limit; root in a container's has it in vain.
bool ignores_memlock(const HostTree& tree) {
  constexpr unsigned kIpcLock = 14;
  const std::optional<std::string> mask = tree.line_after("/proc/self/status", "CapEff:");
  const std::vector<std::string> map =
      split_words(tree.text("/proc/self/uid_map").value_or(std::string()));
  const bool first_namespace = map.size() == 3 && map[0] == "0" && map[2] == "4294967295";
  if (!mask || mask->size() < 4 || !first_namespace) return false;
  const std::size_t digit = mask->size() - 1 - kIpcLock / 4;
  if (digit >= mask->size()) return false;
  const char nibble = (*mask)[digit];
  const unsigned value = nibble <= '9' ? static_cast<unsigned>(nibble - '0')
                                       : static_cast<unsigned>(nibble - 'a' + 10);
  return ((value >> kIpcLock % 4) & 1U) != 0;
}

}  // namespace

Findings check_memlock(const HostTree& tree) {
  const std::optional<Limit> found = limit(tree, "Max locked memory");
  if (!found)
    return {{"limits.memlock", Level::kNote, "the limit of locked memory cannot be read", ""}};
  const std::string id = "limits.memlock";
  if (found->soft == "unlimited") return {{id, Level::kOk, "locked memory is not limited", ""}};
  const std::uint64_t bytes = parse_number(found->soft).value_or(0);
  const std::string text =
      fmt::format("locked memory is limited to {} KiB (hard limit {})", bytes >> 10U, found->hard);
  if (ignores_memlock(tree))
    return {{id, Level::kOk, text + ", which this process ignores (CAP_IPC_LOCK)", ""}};
  if (bytes >= kEnoughLockedBytes) return {{id, Level::kOk, text, ""}};
  const std::string in_shell = found->hard == "unlimited" ? "ulimit -l unlimited; for good: " : "";
  return {{id, Level::kWarning, text + "; registering buffers for RDMA fails beyond it",
           in_shell + "two lines \"* soft memlock unlimited\" and \"* hard memlock unlimited\" in "
                      "/etc/security/limits.conf and a new login; LimitMEMLOCK=infinity in a "
                      "systemd unit; docker run --ulimit memlock=-1"}};
}

Findings check_open_files(const HostTree& tree) {
  const std::optional<Limit> found = limit(tree, "Max open files");
  if (!found) return {};
  const std::string text = fmt::format("{} open files (hard limit {})", found->soft, found->hard);
  if (found->soft == "unlimited" || parse_number(found->soft).value_or(0) >= kEnoughFiles)
    return {{"limits.open_files", Level::kOk, text, ""}};
  return {{"limits.open_files", Level::kNote, text + "; a job of hundreds of peers needs more",
           "ulimit -n 65536, LimitNOFILE=65536 in a systemd unit"}};
}

Findings check_processors(const HostTree& tree) {
  Findings findings;
  const std::string allowed =
      tree.line_after("/proc/self/status", "Cpus_allowed_list:").value_or("unknown");
  const std::string online = tree.text("/sys/devices/system/cpu/online").value_or("unknown");
  findings.push_back({"cpu.allowed", allowed == online ? Level::kOk : Level::kNote,
                      fmt::format("this process may use processors {} of {}", allowed, online),
                      allowed == online ? ""
                                        : "meant so by taskset, a cpuset or a container; else "
                                          "give it more: lanes are planned on these only"});

  std::map<std::string, unsigned> governors;
  for (const std::string& name : tree.names("/sys/devices/system/cpu"))
    if (const auto governor =
            tree.text("/sys/devices/system/cpu/" + name + "/cpufreq/scaling_governor"))
      ++governors[*governor];
  for (const auto& [governor, count] : governors) {
    const bool good = governor == "performance";
    findings.push_back(
        {"cpu.governor." + governor, good ? Level::kOk : Level::kNote,
         fmt::format("the frequency governor of {} processors is {}", count, governor),
         good ? ""
              : "cpupower frequency-set -g performance; waking a sleeping core "
                "costs latency"});
  }
  if (governors.empty())
    findings.push_back({"cpu.governor", Level::kOk, "no frequency governor: the host decides", ""});
  return findings;
}

}  // namespace penstock::cli
