// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "bindings/cli/host_findings.h"

namespace penstock::cli {
namespace {

// The kernel marks the choice: "always [madvise] never".
std::string chosen(const std::string& line) {
  const std::size_t open = line.find('['), close = line.find(']');
  if (open == std::string::npos || close == std::string::npos || close < open) return "unknown";
  return line.substr(open + 1, close - open - 1);
}

Finding check_transparent(const HostTree& tree) {
  const std::string id = "memory.transparent_huge_pages";
  const std::optional<std::string> line = tree.text("/sys/kernel/mm/transparent_hugepage/enabled");
  if (!line) return {id, Level::kNote, "this kernel has no transparent huge pages", ""};
  const std::string mode = chosen(*line);
  if (mode != "never") return {id, Level::kOk, "transparent huge pages: " + mode, ""};
  return {id, Level::kWarning, "transparent huge pages are off: large buffers cost address lookups",
          "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, or "
          "transparent_hugepage=madvise on the kernel's command line"};
}

Finding check_pool(const HostTree& tree) {
  const std::string id = "memory.huge_page_pool";
  const std::string pool = "/sys/kernel/mm/hugepages/hugepages-2048kB/";
  const std::optional<std::uint64_t> pages = tree.number(pool + "nr_hugepages");
  if (!pages) return {id, Level::kNote, "this kernel has no pool of 2 MiB pages", ""};
  const std::uint64_t free = tree.number(pool + "free_hugepages").value_or(0);
  if (*pages > 0)
    return {id, Level::kOk, fmt::format("{} of {} pages of 2 MiB are free", free, *pages), ""};
  return {id, Level::kNote, "the pool of 2 MiB pages is empty; transparent ones are used instead",
          "sysctl vm.nr_hugepages=2048 reserves 4 GiB"};
}

}  // namespace

Findings check_huge_pages(const HostTree& tree) {
  return {check_transparent(tree), check_pool(tree)};
}

}  // namespace penstock::cli
