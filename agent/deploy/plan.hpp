// The value that travels through a deployment. Comments say which step fills which field.
#pragma once

#include "agent/deploy/deployment.hpp"
#include "agent/deploy/probe_doors.hpp"
#include "agent/deploy/rollout.hpp"
#include "agent/deploy/service_driver.hpp"
#include "agent/deploy/supervise.hpp"

namespace updagent::deploy {

struct Plan {
  // apply(), rollback(), recover() before the first step
  ApplyRequest request;
  config::Settings settings;  // of the node; of the app once it is known
  std::string node_name;

  // apply() for files and standard input, fetch for URLs
  base::UniqueFd artifact;
  bool end_is_certain = true;  // of a download: otherwise a cut looks like an end

  // verify
  std::unique_ptr<base::ByteSource> source;
  std::unique_ptr<release::ArtifactReader> reader;

  // fetch or verify, as soon as the envelope was seen (admit_envelope)
  std::string envelope;
  trust::Statement statement;
  std::vector<trust::PublicKey> signed_by;
  std::optional<base::FileLock> lock;
  bool locked = false;           // by `lock`, or by whoever called recover_locked()
  bool made_app_folder = false;  // by this deployment (verify)
  std::optional<store::AppStore> store;
  KnownApp known;
  Admission admission = Admission::deploy;
  bool admitted = false;
  Guardian guardian;

  // verify, of a release with a service
  std::optional<release::ResolvedService> run;

  // start (restart: shift), or a recovery that finds a supervisor
  std::optional<ServiceDriver> service;

  // shift (files, restart: watch); both end before `service`
  std::optional<ProbeDoors> doors;
  std::unique_ptr<Rollout> rollout;
  std::vector<int> unproven_steps;  // in percent

  // verify
  std::unique_ptr<store::Staging> staging;
  std::optional<release::Manifest> manifest;  // of the candidate
  // Its commands run as; "" = the caller's own. Nothing: not decided, so none of them is run.
  std::optional<std::string> user;

  // stage
  bool staged = false;  // releases/VERSION is complete

  // commit
  bool committed = false;

  // whoever fails first: why the deployment did not end as asked
  std::optional<base::Error> error;
  std::string reason;

  // verify, stage, rollback or commit: how it ends; finish() decides when none of them did
  std::optional<Outcome> outcome;
  bool settled = false;  // nothing is left to do: unchanged, or the end of --dry-run
};

}  // namespace updagent::deploy
