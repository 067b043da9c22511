// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/cli/host_findings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "bindings/cli/doctor.h"
#include "tests/bindings/fake_tree.h"

namespace penstock::test {
namespace {

using namespace cli;
using testing::HasSubstr;
using testing::IsEmpty;

std::string limits(const std::string& locked, const std::string& files) {
  return "Limit                     Soft Limit           Hard Limit           Units     \n"
         "Max open files            " +
         files + "     files     \nMax locked memory         " + locked + "     bytes     \n";
}
constexpr const char* kRoot = "Name:\tx\nCapEff:\t000001ffffffffff\nCpus_allowed_list:\t0-3\n";
constexpr const char* kUser = "Name:\tx\nCapEff:\t0000000000000000\nCpus_allowed_list:\t0-3\n";
constexpr const char* kFirstNamespace = "         0          0 4294967295\n";

TEST(HostTree, ReadsNothingWhereThereIsNothing) {
  const FakeTree fake;
  EXPECT_FALSE(fake.tree().text("/proc/version"));
  EXPECT_FALSE(fake.tree().number("/proc/version"));
  EXPECT_FALSE(fake.tree().exists("/proc"));
  EXPECT_THAT(fake.tree().names("/proc"), IsEmpty());
  EXPECT_FALSE(fake.tree().line_after("/proc/self/status", "CapEff:"));
}

TEST(HostTree, StopsAtItsBoundAndDoesNotWaitForAPipe) {
  FakeTree fake;
  fake.file("/large", std::string(1U << 20U, 'x'));
  ASSERT_EQ(::mkfifo(fake.path("/pipe").c_str(), 0600), 0);
  EXPECT_EQ(fake.tree().text("/large")->size(), 256U << 10U);
  EXPECT_EQ(fake.tree().text("/pipe"), "");
}

TEST(HostTree, TakesOnlyWholeNumbers) {
  FakeTree fake;
  fake.file("/n", "4096\n")
      .file("/bad", "40 96")
      .file("/empty")
      .file("/large", "99999999999999999999");
  EXPECT_EQ(fake.tree().number("/n"), 4096U);
  EXPECT_FALSE(fake.tree().number("/bad"));
  EXPECT_FALSE(fake.tree().number("/empty"));
  EXPECT_FALSE(fake.tree().number("/large"));
}

TEST(Memlock, ASmallLimitIsAWarningWithTheWayOut) {
  FakeTree fake;
  fake.file("/proc/self/limits", limits("65536                65536", "1024 4096"))
      .file("/proc/self/status", kUser)
      .file("/proc/self/uid_map", kFirstNamespace);
  const Finding finding = finding_of(check_memlock(fake.tree()), "limits.memlock");
  EXPECT_EQ(finding.level, Level::kWarning);
  EXPECT_THAT(finding.found, HasSubstr("64 KiB"));
  EXPECT_THAT(finding.fix, HasSubstr("limits.conf"));
  EXPECT_THAT(finding.fix, HasSubstr("LimitMEMLOCK"));
  EXPECT_THAT(finding.fix, Not(HasSubstr("ulimit -l")));  // the hard limit forbids it
}

TEST(Memlock, AShellCanRaiseItWhereTheHardLimitAllows) {
  FakeTree fake;
  fake.file("/proc/self/limits", limits("65536 unlimited", "1024 4096"));
  EXPECT_THAT(finding_of(check_memlock(fake.tree()), "limits.memlock").fix, HasSubstr("ulimit -l"));
}

TEST(Memlock, RootIgnoresItButNotInAUserNamespace) {
  FakeTree fake;
  fake.file("/proc/self/limits", limits("65536 65536", "1024 4096"))
      .file("/proc/self/status", kRoot)
      .file("/proc/self/uid_map", kFirstNamespace);
  EXPECT_EQ(finding_of(check_memlock(fake.tree()), "limits.memlock").level, Level::kOk);
  fake.file("/proc/self/uid_map", "0 1000 1\n");
  EXPECT_EQ(finding_of(check_memlock(fake.tree()), "limits.memlock").level, Level::kWarning);
}

TEST(Memlock, OneCapabilityMoreOrLessDecides) {
  FakeTree fake;
  fake.file("/proc/self/limits", limits("65536 65536", "1024 4096"))
      .file("/proc/self/uid_map", kFirstNamespace)
      .file("/proc/self/status", "CapEff:\t0000000000004000\n");  // CAP_IPC_LOCK alone
  EXPECT_EQ(finding_of(check_memlock(fake.tree()), "limits.memlock").level, Level::kOk);
  fake.file("/proc/self/status", "CapEff:\t000001ffffffbfff\n");  // everything but that
  EXPECT_EQ(finding_of(check_memlock(fake.tree()), "limits.memlock").level, Level::kWarning);
}

TEST(Memlock, NoLimitIsGoodAndAnUnreadableOneIsSaid) {
  FakeTree fake;
  EXPECT_EQ(finding_of(check_memlock(fake.tree()), "limits.memlock").level, Level::kNote);
  fake.file("/proc/self/limits", limits("unlimited unlimited", "1024 4096"));
  EXPECT_EQ(finding_of(check_memlock(fake.tree()), "limits.memlock").level, Level::kOk);
}

TEST(OpenFiles, AThousandAreFew) {
  FakeTree fake;
  fake.file("/proc/self/limits", limits("unlimited unlimited", "1024 524288"));
  const Finding few = finding_of(check_open_files(fake.tree()), "limits.open_files");
  EXPECT_EQ(few.level, Level::kNote);
  EXPECT_THAT(few.fix, HasSubstr("ulimit -n"));
  fake.file("/proc/self/limits", limits("unlimited unlimited", "65536 65536"));
  EXPECT_EQ(finding_of(check_open_files(fake.tree()), "limits.open_files").level, Level::kOk);
}

TEST(HugePages, OffIsAWarningAndAnEmptyPoolANote) {
  FakeTree fake;
  fake.file("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n")
      .file("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0\n");
  const Findings findings = check_huge_pages(fake.tree());
  EXPECT_EQ(finding_of(findings, "memory.transparent_huge_pages").level, Level::kWarning);
  EXPECT_THAT(finding_of(findings, "memory.huge_page_pool").fix, HasSubstr("vm.nr_hugepages"));
}

TEST(HugePages, TellsWhatIsFreeInThePool) {
  FakeTree fake;
  fake.file("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
      .file("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "64\n")
      .file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "60\n");
  const Findings findings = check_huge_pages(fake.tree());
  EXPECT_THAT(finding_of(findings, "memory.transparent_huge_pages").found, HasSubstr("madvise"));
  EXPECT_THAT(finding_of(findings, "memory.huge_page_pool").found, HasSubstr("60 of 64"));
}

TEST(Processors, AReducedSetAndASlowGovernorAreNoted) {
  FakeTree fake;
  fake.file("/proc/self/status", kUser)
      .file("/sys/devices/system/cpu/online", "0-7\n")
      .file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
      .file("/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n");
  const Findings findings = check_processors(fake.tree());
  EXPECT_EQ(finding_of(findings, "cpu.allowed").level, Level::kNote);
  EXPECT_THAT(finding_of(findings, "cpu.allowed").found, HasSubstr("0-3 of 0-7"));
  EXPECT_THAT(finding_of(findings, "cpu.governor.powersave").fix, HasSubstr("cpupower"));
  EXPECT_EQ(finding_of(findings, "cpu.governor.performance").level, Level::kOk);
}

TEST(Processors, WithoutGovernorsTheHostDecides) {
  FakeTree fake;
  fake.file("/proc/self/status", kUser).file("/sys/devices/system/cpu/online", "0-3\n");
  const Findings findings = check_processors(fake.tree());
  EXPECT_EQ(finding_of(findings, "cpu.allowed").level, Level::kOk);
  EXPECT_EQ(finding_of(findings, "cpu.governor").level, Level::kOk);
}

TEST(Modules, AreFoundLoadedBuiltInOrByTheirTraces) {
  FakeTree fake;
  fake.file("/proc/sys/kernel/osrelease", "6.1.0-test\n")
      .file("/sys/module/ib_uverbs/refcnt", "1")
      .file("/lib/modules/6.1.0-test/modules.builtin",
            "kernel/drivers/infiniband/core/rdma-ucm.ko\nkernel/net/other_rdma_rxe.ko\n");
  EXPECT_TRUE(has_module(fake.tree(), "ib_uverbs"));
  EXPECT_TRUE(has_module(fake.tree(), "rdma_ucm"));
  EXPECT_FALSE(has_module(fake.tree(), "rdma_rxe"));
  fake.file("/sys/class/infiniband/rxe0/parent", "eth0\n");
  EXPECT_TRUE(has_module(fake.tree(), "rdma_rxe"));
  EXPECT_EQ(finding_of(check_kernel(fake.tree()), "kernel.release").found, "Linux 6.1.0-test");
}

TEST(Modules, MissingOnesAreAProblemOnlyUnderADevice) {
  FakeTree fake;
  EXPECT_EQ(finding_of(check_modules(fake.tree()), "kernel.rdma_ucm").level, Level::kNote);
  fake.file("/sys/class/infiniband/mlx5_0/node_type", "1: CA\n");
  const Findings findings = check_modules(fake.tree());
  EXPECT_EQ(finding_of(findings, "kernel.rdma_ucm").level, Level::kProblem);
  EXPECT_THAT(finding_of(findings, "kernel.rdma_ucm").fix, HasSubstr("modprobe rdma_ucm"));
  EXPECT_EQ(finding_of(findings, "kernel.rdma_rxe").level, Level::kNote);
}

TEST(Modules, PeermemMattersOnlyWithAnNvidiaDriver) {
  FakeTree fake;
  for (const Finding& finding : check_modules(fake.tree()))
    EXPECT_NE(finding.id, "kernel.nvidia_peermem");
  fake.file("/proc/driver/nvidia/version", "NVRM version: …");
  EXPECT_EQ(finding_of(check_modules(fake.tree()), "kernel.nvidia_peermem").level, Level::kNote);
  fake.file("/sys/module/nvidia_peermem/refcnt", "0");
  EXPECT_EQ(finding_of(check_modules(fake.tree()), "kernel.nvidia_peermem").level, Level::kOk);
}

TEST(Fork, VariablesThatHideMemoryFromChildrenAreNoted) {
  FakeTree fake;
  EXPECT_THAT(check_fork(fake.tree()), IsEmpty());
  fake.file("/proc/self/environ", std::string("HOME=/\0NOT_IBV_FORK_SAFE=1\0", 27));
  EXPECT_THAT(check_fork(fake.tree()), IsEmpty());
  fake.file("/proc/self/environ", std::string("HOME=/\0RDMAV_FORK_SAFE=1\0", 25));
  EXPECT_THAT(finding_of(check_fork(fake.tree()), "fork").fix, HasSubstr("unset RDMAV_FORK_SAFE"));
}

TEST(TcpLimits, SmallOnesComeWithTheCommandThatRaisesThem) {
  FakeTree fake;
  fake.file("/proc/sys/net/core/wmem_max", "212992\n")
      .file("/proc/sys/net/core/rmem_max", "8388608\n")
      .file("/proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t1048576\n")
      .file("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n")
      .file("/proc/sys/net/ipv4/tcp_available_ulp", "espintcp mptcp tls\n");
  const Findings findings = check_tcp(fake.tree());
  EXPECT_EQ(finding_of(findings, "tcp.wmem_max").fix, "sysctl net.core.wmem_max=4194304");
  EXPECT_EQ(finding_of(findings, "tcp.rmem_max").level, Level::kOk);
  EXPECT_EQ(finding_of(findings, "tcp.tcp_wmem").fix,
            "sysctl net.ipv4.tcp_wmem=\"4096 16384 4194304\"");
  EXPECT_EQ(finding_of(findings, "tcp.tcp_rmem").level, Level::kOk);
  EXPECT_EQ(finding_of(findings, "tcp.ktls").level, Level::kOk);
}

TEST(TcpLimits, KtlsIsATlsModuleToLoad) {
  const FakeTree fake;
  EXPECT_THAT(finding_of(check_tcp(fake.tree()), "tcp.ktls").fix, HasSubstr("modprobe tls"));
  EXPECT_EQ(finding_of(check_tcp(fake.tree()), "tcp.wmem_max").level, Level::kNote);
}

TEST(Container, WithoutTheDeviceNodesIsToldHowToGetThem) {
  FakeTree fake;
  EXPECT_THAT(check_container(fake.tree()), IsEmpty());
  fake.file("/sys/class/infiniband/mlx5_0/node_type", "1: CA\n").file("/.dockerenv");
  const Finding missing = finding_of(check_container(fake.tree()), "container");
  EXPECT_EQ(missing.level, Level::kProblem);
  EXPECT_THAT(missing.fix, HasSubstr("--device=/dev/infiniband"));
  fake.file("/dev/infiniband/uverbs0");
  EXPECT_EQ(finding_of(check_container(fake.tree()), "container").level, Level::kOk);
}

TEST(Host, AnEmptyTreeIsAHostWithoutAnything) {
  const FakeTree fake;
  const Findings findings = check_host(fake.tree());
  EXPECT_GT(findings.size(), 8U);
  for (const Finding& finding : findings) EXPECT_NE(finding.level, Level::kProblem) << finding.id;
}

}  // namespace
}  // namespace penstock::test
