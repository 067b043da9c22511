// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// How children hand their reports to the parent: JSON through a pipe, read when the child has ended
// or while it runs, so that a full pipe stops nobody.

#include <string>

#include "bench/psbench/local_cluster.h"
#include "transport/base/unique_fd.h"

namespace penstock::psbench {

struct Pipe {
  UniqueFd read, write;
};
Result<Pipe> make_pipe();  // the read end does not block

void write_all(int fd, const std::string& text);
// Appends what is there. False once the other end is closed and all was read.
bool read_some(int fd, std::string& text);

std::string to_text(const WorkerReport& report);
std::string to_text(const ServerReport& report);
std::string to_text(const Status& status);
// kProtocol when the child ended without a whole report.
WorkerReport worker_report(const std::string& text);
ServerReport server_report(const std::string& text);
Status status_report(const std::string& text);

}  // namespace penstock::psbench
