//! Who is to be called by name in a chat.

use gpulock::core::alert::Urgency;

use crate::notification::{Notification, NotifiedAlert};

/// More would leave no room for the message.
const MOST: usize = 50;
const LONGEST: usize = 64;

/// Who is to be called by name in a chat, and when.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Mentions {
    /// Telephone numbers.
    pub(crate) mobiles: Vec<String>,
    /// Ids that the service gives its users.
    pub(crate) user_ids: Vec<String>,
    /// Everybody in the chat.
    pub(crate) all: bool,
    /// Only for alerts that are at least as urgent; `None` for all.
    pub(crate) from: Option<Urgency>,
}

impl Mentions {
    /// Refuses what can name nobody, and what would break out of the markup.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (key, names) in [("at_mobiles", &self.mobiles), ("at_user_ids", &self.user_ids)] {
            if names.len() > MOST {
                return Err(format!("`{key}` names {}; write at most {MOST}", names.len()));
            }
        }
        let is_digit = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-');
        if let Some(wrong) = self.mobiles.iter().find(|mobile| !sound(mobile, is_digit)) {
            let hint = "write its digits, as in \"13800138000\"";
            return Err(format!("{wrong:?} in `at_mobiles` is no telephone number; {hint}"));
        }
        let is_id = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | '$');
        if let Some(wrong) = self.user_ids.iter().find(|id| !sound(id, is_id)) {
            let hint = "write the id that the service gives the user, not a name; for everybody \
                        write `at_all: true`";
            return Err(format!("{wrong:?} in `at_user_ids` is no id of a user; {hint}"));
        }
        Ok(())
    }

    /// Nobody, ever.
    pub(crate) const fn is_empty(&self) -> bool {
        self.mobiles.is_empty() && self.user_ids.is_empty() && !self.all
    }

    /// Whom this message has to call: nobody if all is over, or not urgent enough.
    pub(crate) fn due(&self, notification: &Notification) -> Option<&Self> {
        let urgency = notification.firing().map(NotifiedAlert::urgency).max()?;
        let due = !self.is_empty() && self.from.is_none_or(|from| urgency >= from);
        due.then_some(self)
    }
}

fn sound(name: &str, may_have: impl Fn(char) -> bool) -> bool {
    !name.is_empty() && name.len() <= LONGEST && name.chars().all(may_have) && name != "@all"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_out_of_the_markup_are_refused() {
        let mobiles =
            |mobile: &str| Mentions { mobiles: vec![mobile.to_owned()], ..Mentions::default() };
        let ids = |id: &str| Mentions { user_ids: vec![id.to_owned()], ..Mentions::default() };
        assert_eq!(mobiles("+86-13800138000").check(), Ok(()));
        assert_eq!(ids("ou_18eac85d35a2").check(), Ok(()));
        assert_eq!(ids("zhang.san@corp.example").check(), Ok(()));
        for wrong in ["", "alice", "138 0013 8000", "138\n"] {
            assert!(mobiles(wrong).check().unwrap_err().contains("at_mobiles"), "{wrong:?}");
        }
        for wrong in ["", "@all", "a b", "a></at><at id=all", "<@a>", "张三"] {
            assert!(ids(wrong).check().unwrap_err().contains("at_user_ids"), "{wrong:?}");
        }
        let many = Mentions { user_ids: vec!["a".to_owned(); 51], ..Mentions::default() };
        assert!(many.check().unwrap_err().contains("at most 50"));
    }
}
