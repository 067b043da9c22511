// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/cli/doctor.h"

#include <fmt/format.h>

#include <cstdio>
#include <iterator>

#include "bindings/cli/gpu_findings.h"
#include "bindings/cli/host_findings.h"
#include "bindings/cli/rdma_findings.h"
#include "bindings/cli/transport_findings.h"
#include "transport/providers.h"

namespace penstock::cli {
namespace {

void append(Findings& to, Findings more) {
  to.insert(to.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

Result<std::vector<Gpu>> gpus() {
  PENSTOCK_ASSIGN_OR_RETURN(const CudaDriver* driver, system_cuda());
  return list_gpus(*driver);
}

std::string conclusion(const Verdict& verdict) {
  if (verdict.transport == "any")
    return verdict.works ? "a transport works here" : "no transport works here";
  return verdict.transport + (verdict.works ? " works here" : " does not work here");
}

}  // namespace

Findings check_host(const HostTree& tree) {
  Findings findings;
  for (const auto check : {check_container, check_memlock, check_open_files, check_huge_pages,
                           check_processors, check_kernel, check_fork, check_modules, check_tcp})
    append(findings, check(tree));
  return findings;
}

ExitCode run_doctor(const DoctorOptions& options) {
  const HostTree tree("");
  TransportReport transports = check_transports(options.transport);
  const Result<std::vector<RdmaPort>> ports = rdma_ports();
  const Result<PciMap> map = read_pci_map();

  Findings findings = std::move(transports.findings);
  append(findings, check_rdma(ports, tree));
  append(findings, check_pci(map));
  append(findings, check_gpus(gpus(), map, ports.ok() ? *ports : std::vector<RdmaPort>{},
                              has_module(tree, "nvidia_peermem")));
  append(findings, check_nccl(system_nccl()));
  append(findings, check_host(tree));

  const Verdict verdict{PENSTOCK_VERSION, options.transport, transports.works};
  const std::string report = options.json
                                 ? to_json(verdict, findings)
                                 : fmt::format("penstock {} doctor\n{}{}\n", verdict.version,
                                               to_text(findings), conclusion(verdict));
  // Whoever reads may have seen enough (head): no error of ours.
  (void)std::fwrite(report.data(), 1, report.size(), stdout);
  return verdict.works ? kExitGood : kExitEnvironment;
}

}  // namespace penstock::cli
