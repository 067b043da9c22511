// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The processes of a job on this host: started, watched, ended in order.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/launch/child_process.h"
#include "bindings/launch/line_output.h"

namespace penstock::launch {

using Environment = std::vector<std::pair<std::string, std::string>>;

// Thread: one, the program's only one.
class LocalJob {
 public:
  struct End {
    std::string name;
    std::optional<ChildExit> exit;  // none: it would not end
    bool told = false;              // it was still running when we ended the job
    bool good() const { return exit && !told && exit->signal == 0 && exit->code == 0; }
  };

  LocalJob();
  ~LocalJob();  // kills what runs

  // Starts `program` (looked up in PATH) with these variables on top of ours, in a process group
  // of its own. Its output goes to ours.
  Status start(const std::string& name, const std::vector<std::string>& program,
               const Environment& variables);

  // Until all have ended, `deadline_ns` has passed (kTimeout), one has failed and `grace_ns` is
  // over, or a signal asks us to end (kCancelled). What runs then is ended: SIGTERM, SIGKILL.
  Status run(TimeNs deadline_ns, TimeNs grace_ns);

  std::vector<End> ends() const;

 private:
  struct Member;
  bool running() const;
  bool failed() const;
  // Waits for output, ends and signals; the signal's number, or 0.
  int step(TimeNs until_ns);
  void end_all();
  void signal_all(int number);

  UniqueFd signals_;  // SIGINT, SIGTERM
  std::vector<Member> members_;
};

}  // namespace penstock::launch
