//! The macro that gives every object of the specifications the same rules for absent fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Whether a field is left out when written.
pub(crate) trait Absent {
    /// True for the value that reads back from a missing field and carries no meaning of its own.
    fn absent(&self) -> bool;
}

impl<T> Absent for Option<T> {
    fn absent(&self) -> bool {
        self.is_none()
    }
}

impl<T> Absent for Vec<T> {
    fn absent(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Absent for BTreeMap<K, V> {
    fn absent(&self) -> bool {
        self.is_empty()
    }
}

impl Absent for bool {
    fn absent(&self) -> bool {
        !self
    }
}

/// Required fields are written whatever they hold.
macro_rules! always_present {
    ($($kind:ty),*) => {
        $(impl Absent for $kind {
            fn absent(&self) -> bool {
                false
            }
        })*
    };
}
always_present!(
    String,
    u8,
    u32,
    u64,
    i64,
    crate::runtime::User,
    crate::image::RootFs,
    crate::image::Descriptor
);

/// Go writes `null` for an empty list or pointer.
pub(crate) fn null_is_absent<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Declares an object: every field may be missing, and is left out when [`Absent`].
/// With `open` the object keeps the fields it does not know in `extra`.
macro_rules! record {
    ($(#[$meta:meta])* open struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(
                    default,
                    deserialize_with = "crate::record::null_is_absent",
                    skip_serializing_if = "crate::record::Absent::absent"
                )]
                pub $field: $kind,
            )*
            /// Fields that we do not know.
            #[serde(flatten)]
            pub extra: crate::Extra,
        }
    };
    ($(#[$meta:meta])* struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(
                    default,
                    deserialize_with = "crate::record::null_is_absent",
                    skip_serializing_if = "crate::record::Absent::absent"
                )]
                pub $field: $kind,
            )*
        }
    };
}
