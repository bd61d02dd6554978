#include "evaluate/tasks/mmlu_subjects.h"

namespace halftone {
namespace {

constexpr MmluSubject kSubjects[] = {
    {"abstract_algebra", "math", "STEM"},
    {"anatomy", "health", "other"},
    {"astronomy", "physics", "STEM"},
    {"business_ethics", "business", "other"},
    {"clinical_knowledge", "health", "other"},
    {"college_biology", "biology", "STEM"},
    {"college_chemistry", "chemistry", "STEM"},
    {"college_computer_science", "computer science", "STEM"},
    {"college_mathematics", "math", "STEM"},
    {"college_medicine", "health", "other"},
    {"college_physics", "physics", "STEM"},
    {"computer_security", "computer science", "STEM"},
    {"conceptual_physics", "physics", "STEM"},
    {"econometrics", "economics", "social sciences"},
    {"electrical_engineering", "engineering", "STEM"},
    {"elementary_mathematics", "math", "STEM"},
    {"formal_logic", "philosophy", "humanities"},
    {"global_facts", "other", "other"},
    {"high_school_biology", "biology", "STEM"},
    {"high_school_chemistry", "chemistry", "STEM"},
    {"high_school_computer_science", "computer science", "STEM"},
    {"high_school_european_history", "history", "humanities"},
    {"high_school_geography", "geography", "social sciences"},
    {"high_school_government_and_politics", "politics", "social sciences"},
    {"high_school_macroeconomics", "economics", "social sciences"},
    {"high_school_mathematics", "math", "STEM"},
    {"high_school_microeconomics", "economics", "social sciences"},
    {"high_school_physics", "physics", "STEM"},
    {"high_school_psychology", "psychology", "social sciences"},
    {"high_school_statistics", "math", "STEM"},
    {"high_school_us_history", "history", "humanities"},
    {"high_school_world_history", "history", "humanities"},
    {"human_aging", "health", "other"},
    {"human_sexuality", "culture", "social sciences"},
    {"international_law", "law", "humanities"},
    {"jurisprudence", "law", "humanities"},
    {"logical_fallacies", "philosophy", "humanities"},
    {"machine_learning", "computer science", "STEM"},
    {"management", "business", "other"},
    {"marketing", "business", "other"},
    {"medical_genetics", "health", "other"},
    {"miscellaneous", "other", "other"},
    {"moral_disputes", "philosophy", "humanities"},
    {"moral_scenarios", "philosophy", "humanities"},
    {"nutrition", "health", "other"},
    {"philosophy", "philosophy", "humanities"},
    {"prehistory", "history", "humanities"},
    {"professional_accounting", "other", "other"},
    {"professional_law", "law", "humanities"},
    {"professional_medicine", "health", "other"},
    {"professional_psychology", "psychology", "social sciences"},
    {"public_relations", "politics", "social sciences"},
    {"security_studies", "politics", "social sciences"},
    {"sociology", "culture", "social sciences"},
    {"us_foreign_policy", "politics", "social sciences"},
    {"virology", "health", "other"},
    {"world_religions", "philosophy", "humanities"},
};

}  // namespace

const MmluSubject* mmlu_subject(std::string_view name) {
  for (const MmluSubject& subject : kSubjects) {
    if (name == subject.name) return &subject;
  }
  return nullptr;
}

}  // namespace halftone
